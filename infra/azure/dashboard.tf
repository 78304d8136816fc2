locals {
  # What a run logs (shared/metrics.py). The largest of an hour counts: a run for one subscription reports less.
  dashboard_metrics = {
    "Subscriptions"          = ["covered", "missing", "excluded"]
    "Freshness lag in hours" = ["freshness_lag_hours"]
    "Manual steps"           = ["manual"]
  }

  dashboard_queries = merge(
    { for title, names in local.dashboard_metrics : title =>
      "${local.figures} | summarize ${join(", ", [for name in names : "${name} = max(todouble(f.${name}))"])} by bin(timestamp, 1h)"
    },
    {
      "Runs by status" = "${local.figures} | summarize runs = count() by bin(timestamp, 1h), status = tostring(f.status)"
      "Calls by quota" = "${local.figures} | mv-expand quota = bag_keys(f.calls_by_quota) to typeof(string) | summarize calls = sum(tolong(f.calls_by_quota[quota])) by bin(timestamp, 1h), quota"
    },
  )

  # By the lines of each round's end, with `fleet`. The label `group` of the registry groups the tenants.
  tenant_rows = "traces | where message has 'tenant-row' | extend f = parse_json(message) | where tostring(f.event) == 'tenant-row'"
  tenant_queries = {
    "Tenants by status"         = "${local.tenant_rows} | summarize tenants = dcount(tostring(f.tenant)) by bin(timestamp, 1h), status = tostring(f.status)"
    "Tenants of the last round" = "${local.tenant_rows} | summarize arg_max(timestamp, f) by tenant = tostring(f.tenant) | project group = tostring(f.labels.group), tenant, status = tostring(f.status), code = tostring(f.code), covered = toint(f.covered), of = toint(f.active), seconds = todouble(f.duration_s), timestamp | order by group asc, status desc, tenant asc"
  }
}

resource "azurerm_application_insights_workbook" "this" {
  count = var.dashboard ? 1 : 0

  # The name of a workbook is a GUID. This one follows from what it is for.
  name                = uuidv5("url", "${local.subscription_id}/${local.function_name}")
  display_name        = "Tailpipe Exports: ${local.function_name}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  # Azure returns it in lower case, and compares it so.
  source_id = lower(azurerm_application_insights.this.id)
  tags      = local.tags

  lifecycle {
    # One that a launch template made has another GUID, and keeps it.
    ignore_changes = [name]
  }

  data_json = jsonencode({
    "$schema" = "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json"
    version   = "Notebook/1.0"
    items = [for title in concat(
      ["Subscriptions", "Freshness lag in hours", "Manual steps", "Runs by status", "Calls by quota"],
      var.fleet ? ["Tenants by status", "Tenants of the last round"] : [],
      ) : {
      type = 3
      name = title
      content = {
        version       = "KqlItem/1.0"
        title         = title
        query         = merge(local.dashboard_queries, local.tenant_queries)[title]
        queryType     = 0
        resourceType  = "microsoft.insights/components"
        size          = 0
        timeContext   = { durationMs = 604800000 }
        visualization = title == "Tenants of the last round" ? "table" : contains(["Runs by status", "Calls by quota", "Tenants by status"], title) ? "barchart" : "timechart"
      }
    }]
    fallbackResourceIds = [azurerm_application_insights.this.id]
  })
}
