locals {
  # The function writes one log line with its metrics a run (azure_function/handler.py); Application Insights keeps it as a trace.
  figures = "traces | where message has 'figures' | extend f = parse_json(message) | where tostring(f.event) == 'figures'"

  # Log alerts know these windows only, and look back two days at most.
  three_schedules = 3 * var.schedule_minutes
  silence_window  = local.three_schedules <= 180 ? "PT3H" : local.three_schedules <= 360 ? "PT6H" : local.three_schedules <= 1440 ? "P1D" : "P2D"

  # The entry of docs/runbook.md that each alarm leads to.
  runbook = {
    no-success = "no-run-was-ok"
    failed     = "a-run-failed"
    missing    = "scopes-are-missing"
    manual     = "a-step-waits-for-you"
    excluded   = "a-scope-was-excluded"
    events     = "changes-are-not-looked-for"
    deliveries = "deliveries-are-not-announced"

    missed-rounds = "rounds-are-missing"
    failed-rounds = "a-round-failed"
    late-rounds   = "a-round-is-late"
  }

  alarms = {
    no-success = {
      # Also where nothing is logged at all, and where runs stay degraded. Runs for events or certain scopes do not count.
      title     = "no run was ok for three schedules"
      severity  = 1
      window    = local.silence_window
      every     = "PT30M"
      query     = "${local.figures} | where tostring(f.status) == 'ok' and tostring(f.trigger) == 'timer'"
      operator  = "LessThan"
      threshold = 1
    }
    failed = {
      title     = "a run failed"
      severity  = 1
      window    = "PT1H"
      every     = "PT30M"
      query     = "union (${local.figures} | where tostring(f.status) == 'failed' | project timestamp), (requests | where name in ('reconcile_timer', 'changes_timer') and success == false | project timestamp)"
      operator  = "GreaterThan"
      threshold = 0
    }
    missing = {
      title     = "exports are missing for two days"
      severity  = 2
      window    = "P2D"
      every     = "PT1H"
      query     = "${local.figures} | summarize least = min(toint(f.missing)), since = min(timestamp), till = max(timestamp) | where least > 0 and till - since > 42h"
      operator  = "GreaterThan"
      threshold = 0
    }
    manual = {
      title     = "steps wait for a person"
      severity  = 3
      window    = "P1D"
      every     = "PT1H"
      query     = "${local.figures} | top 1 by timestamp desc | where toint(f.manual) > 0"
      operator  = "GreaterThan"
      threshold = 0
    }
    excluded = {
      # Reported once: only the run that finds a scope excluded for the first time counts it.
      title     = "Azure refuses the export of a scope"
      severity  = 3
      window    = "PT1H"
      every     = "PT1H"
      query     = "${local.figures} | where toint(f.newly_excluded) > 0"
      operator  = "GreaterThan"
      threshold = 0
    }
    events = {
      # Only with var.events. A look may itself become a run of up to two hours, and is logged when that ends.
      title     = "changes were not looked for in three hours"
      severity  = 2
      window    = "PT3H"
      every     = "PT30M"
      query     = "requests | where name == 'changes_timer' and success == true | join kind=leftanti (traces | where message has 'events-unread' | project operation_Id) on operation_Id"
      operator  = "LessThan"
      threshold = 1
    }
  }
  delivery_alarms = var.delivery_events ? {
    deliveries = {
      # Every run of the six hours left some.
      title     = "deliveries were not announced for six hours"
      severity  = 2
      window    = local.three_schedules <= 360 ? "PT6H" : local.silence_window
      every     = "PT1H"
      query     = "${local.figures} | summarize least = min(toint(f.deliveries_unannounced)), runs = count() | where least > 0 and runs > 1"
      operator  = "GreaterThan"
      threshold = 0
    }
  } : {}
}

locals {
  # One line a round, which azure_function/rounds.py writes at its end.
  rounds       = "traces | where message has 'round-figures' | extend f = parse_json(message) | where tostring(f.event) == 'round-figures'"
  three_rounds = 3 * var.fleet_minutes
  fleet_alarms = var.fleet ? {
    failed-rounds = {
      # Where no tenant could be served, and where a step of the round failed as often as it is repeated.
      title     = "a round over the tenants failed"
      severity  = 1
      window    = "PT1H"
      every     = "PT30M"
      query     = "union (${local.rounds} | where tostring(f.status) == 'failed' | project timestamp), (requests | where name in ('round_begin', 'round_end', 'rounds_timer') and success == false | summarize failures = count(), timestamp = max(timestamp) by name | where failures >= 3 or name == 'rounds_timer' | project timestamp)"
      operator  = "GreaterThan"
      threshold = 0
    }
    late-rounds = {
      title     = "a round over the tenants takes too long"
      severity  = 2
      window    = "PT1H"
      every     = "PT1H"
      query     = "traces | where message has 'round-late' | extend f = parse_json(message) | where tostring(f.event) == 'round-late'"
      operator  = "GreaterThan"
      threshold = 0
    }
    missed-rounds = {
      title     = "no round over the tenants ended in the time of three"
      severity  = 1
      window    = local.three_rounds <= 180 ? "PT3H" : local.three_rounds <= 360 ? "PT6H" : local.three_rounds <= 1440 ? "P1D" : "P2D"
      every     = "PT30M"
      query     = local.rounds
      operator  = "LessThan"
      threshold = 1
    }
  } : {}
}

resource "azurerm_monitor_action_group" "this" {
  name                = local.function_name
  resource_group_name = azurerm_resource_group.this.name
  short_name          = "tailpipe"
  tags                = local.tags

  dynamic "email_receiver" {
    for_each = toset(var.notification_emails)
    content {
      name                    = email_receiver.value
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "this" {
  for_each = merge({ for name, alarm in local.alarms : name => alarm if name != "events" || var.events }, local.delivery_alarms, local.fleet_alarms)

  name                    = "${local.function_name}-${each.key}"
  display_name            = "Tailpipe Exports: ${each.value.title}"
  description             = "Tailpipe Exports: ${each.value.title}. Runbook: docs/runbook.md#${local.runbook[each.key]}"
  resource_group_name     = azurerm_resource_group.this.name
  location                = azurerm_resource_group.this.location
  scopes                  = [azurerm_application_insights.this.id]
  severity                = each.value.severity
  window_duration         = each.value.window
  evaluation_frequency    = each.value.every
  auto_mitigation_enabled = true
  # The tables are empty until the function has run once, and Azure would refuse the query until then.
  skip_query_validation = true
  tags                  = local.tags

  criteria {
    query                   = each.value.query
    time_aggregation_method = "Count"
    operator                = each.value.operator
    threshold               = each.value.threshold
  }

  action {
    action_groups = [azurerm_monitor_action_group.this.id]
  }
}
