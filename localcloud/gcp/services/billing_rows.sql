WITH batches AS (
    SELECT unnest($tables) AS _table, unnest($accounts) AS account, unnest($currencies) AS currency,
        unnest($days) AS day, unnest($firsts) AS first_row, unnest($counts) AS n_rows,
        make_timestamp(unnest($times)) AS written, unnest($buffered) AS buffered
),
-- Some of Google's public SKUs, with their prices in USD.
skus(sku_index, s) AS (VALUES
    (0, {'sid': '6F81-5844-456A', 'service': 'Compute Engine', 'id': '2E27-4F75-95CD', 'name': 'N1 Predefined Instance Core',
      'unit': 'seconds', 'pricing_unit': 'hour', 'quotient': 3600::DOUBLE, 'price': 0.03::DOUBLE}),
    (1, {'sid': '6F81-5844-456A', 'service': 'Compute Engine', 'id': 'D973-5D65-BAB2', 'name': 'Storage PD Capacity',
      'unit': 'byte-seconds', 'pricing_unit': 'gibibyte month', 'quotient': 2800000000000000.0::DOUBLE, 'price': 0.04::DOUBLE}),
    (2, {'sid': '95FF-2EF5-5EA1', 'service': 'Cloud Storage', 'id': 'E5F0-6A5D-7BAD', 'name': 'Standard Storage US Multi-region',
      'unit': 'byte-seconds', 'pricing_unit': 'gibibyte month', 'quotient': 2800000000000000.0::DOUBLE, 'price': 0.026::DOUBLE}),
    (3, {'sid': '24E6-581D-38E5', 'service': 'BigQuery', 'id': '1FBA-25E9-A3B1', 'name': 'Analysis (us)',
      'unit': 'bytes', 'pricing_unit': 'tebibyte', 'quotient': 1100000000000.0::DOUBLE, 'price': 6.25::DOUBLE}),
    (4, {'sid': '152E-C115-5142', 'service': 'Cloud Run', 'id': 'A305-1B19-9E5F', 'name': 'CPU Allocation Time',
      'unit': 'seconds', 'pricing_unit': 'second', 'quotient': 1::DOUBLE, 'price': 2.4e-05::DOUBLE}),
    (5, {'sid': '5490-F7B7-8DF6', 'service': 'Cloud Logging', 'id': '143F-A1B0-E0BE', 'name': 'Log Storage cost',
      'unit': 'bytes', 'pricing_unit': 'gibibyte', 'quotient': 1070000000.0::DOUBLE, 'price': 0.5::DOUBLE})
),
regions(region_index, region) AS (VALUES (0, 'us-central1'), (1, 'europe-west1'), (2, 'europe-west4'), (3, 'asia-northeast1')),
numbered AS (
    SELECT *, unnest(range(first_row, first_row + n_rows)) AS number FROM batches
),
drawn AS (
    SELECT *, md5_number_lower(concat_ws('/', $seed, account, number)) AS h,
        written + to_milliseconds(number - first_row) AS export_time,
        CASE WHEN buffered THEN NULL ELSE day::TIMESTAMP END AS _PARTITIONTIME, day AS _due
    FROM numbered
),
base AS (
    SELECT *,
        -- Usage is reported with a delay: it is of this day, or of one of the two before.
        day::TIMESTAMP - to_days((h // 31 % 3)::INTEGER) + to_hours((h // 97 % 24)::INTEGER) AS used_at,
        round((1 + h // 1009 % 1000000)::DOUBLE / 1000, 3) AS amount,
        'project-' || (h // 13 % 5) AS project_id
    FROM drawn JOIN skus ON sku_index = h % 6 JOIN regions ON region_index = h // 7 % 4
),
priced AS (SELECT *, round(amount * s.price, 6) AS cost FROM base)
