"""Resource types of identities, functions, schedules, events, alarms and StackSets.

The module is over 350 lines because each type lists the properties that it understands.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from localcloud.aws.stacks.kinds import Context, Kind, Props, existing, fit, retag, tag_list, tags_of, text
from localcloud.aws.stacks.kinds import but as without


class Role(Kind):
    """AWS::IAM::Role."""

    name = identifier = "RoleName"
    fixed = frozenset({"RoleName", "Path"})
    known = frozenset(
        {
            *("RoleName", "Description", "AssumeRolePolicyDocument", "PermissionsBoundary", "Policies", "Tags"),
            *("ManagedPolicyArns", "MaxSessionDuration", "Path"),
        }
    )

    def create(self, at: Context, props: Props) -> str:
        client, name = at.client("iam"), str(props["RoleName"])
        given = without(props, "Policies", "ManagedPolicyArns", "AssumeRolePolicyDocument")
        document = {"AssumeRolePolicyDocument": text(props["AssumeRolePolicyDocument"])}
        client.create_role(**fit(client, "CreateRole", {**given, **document}))
        for one in props.get("Policies", []):
            self._put(at, name, one)
        for arn in props.get("ManagedPolicyArns", []):
            client.attach_role_policy(RoleName=name, PolicyArn=arn)
        return name

    def _put(self, at: Context, role: str, policy: Props) -> None:
        at.client("iam").put_role_policy(
            RoleName=role, PolicyName=policy["PolicyName"], PolicyDocument=text(policy["PolicyDocument"])
        )

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("iam")
        if old.get("AssumeRolePolicyDocument") != new["AssumeRolePolicyDocument"]:
            client.update_assume_role_policy(RoleName=physical, PolicyDocument=text(new["AssumeRolePolicyDocument"]))
        if any(old.get(one) != new.get(one) for one in ("Description", "MaxSessionDuration")):
            duration = {"MaxSessionDuration": int(new["MaxSessionDuration"])} if "MaxSessionDuration" in new else {}
            client.update_role(RoleName=physical, Description=str(new.get("Description", "")), **duration)
        if old.get("PermissionsBoundary") != new.get("PermissionsBoundary"):
            if new.get("PermissionsBoundary"):
                client.put_role_permissions_boundary(RoleName=physical, PermissionsBoundary=new["PermissionsBoundary"])
            else:
                client.delete_role_permissions_boundary(RoleName=physical)
        kept = {str(one["PolicyName"]) for one in new.get("Policies", [])}
        for one in new.get("Policies", []):
            if one not in old.get("Policies", []):
                self._put(at, physical, one)
        for one in old.get("Policies", []):
            if one["PolicyName"] not in kept:
                existing(partial(client.delete_role_policy, RoleName=physical, PolicyName=one["PolicyName"]))
        before, after = set(old.get("ManagedPolicyArns", [])), set(new.get("ManagedPolicyArns", []))
        for arn in sorted(after - before):
            client.attach_role_policy(RoleName=physical, PolicyArn=arn)
        for arn in sorted(before - after):
            client.detach_role_policy(RoleName=physical, PolicyArn=arn)
        added, removed = retag(old, new)
        if added:
            client.tag_role(RoleName=physical, Tags=tag_list(added))
        if removed:
            client.untag_role(RoleName=physical, TagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("iam")
        found = existing(lambda: client.get_role(RoleName=physical))
        if found is None:
            return None
        role = found["Role"]
        policies = [
            {
                "PolicyName": name,
                "PolicyDocument": client.get_role_policy(RoleName=physical, PolicyName=name)["PolicyDocument"],
            }
            for name in client.list_role_policies(RoleName=physical)["PolicyNames"]
        ]
        attached = client.list_attached_role_policies(RoleName=physical)["AttachedPolicies"]
        return {
            "RoleName": physical,
            "Path": role["Path"],
            "Description": role.get("Description", ""),
            "AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"],
            "PermissionsBoundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
            "MaxSessionDuration": role.get("MaxSessionDuration"),
            "Policies": policies,
            "ManagedPolicyArns": [one["PolicyArn"] for one in attached],
            "Tags": role.get("Tags", []),
        }

    def delete(self, at: Context, physical: str, props: Props) -> None:
        client = at.client("iam")
        found = self.read(at, physical)
        if found is None:
            return
        # Only its own policies: a foreign one makes the deletion fail, as on AWS.
        own = {str(one["PolicyName"]) for one in props.get("Policies", [])}
        for one in found["Policies"]:
            if one["PolicyName"] in own:
                client.delete_role_policy(RoleName=physical, PolicyName=one["PolicyName"])
        for arn in props.get("ManagedPolicyArns", []):
            client.detach_role_policy(RoleName=physical, PolicyArn=arn)
        client.delete_role(RoleName=physical)

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        role = at.client("iam").get_role(RoleName=physical)["Role"]
        return {"Arn": str(role["Arn"]), "RoleId": str(role["RoleId"])}


class Function(Kind):
    """AWS::Lambda::Function."""

    name = identifier = "FunctionName"
    fixed = frozenset({"FunctionName"})
    known = frozenset(
        {
            *("FunctionName", "Description", "Role", "Handler", "Runtime", "Architectures", "Code", "MemorySize"),
            *("Timeout", "ReservedConcurrentExecutions", "Environment", "Tags"),
        }
    )

    def taken(self, at: Context, props: Props) -> str:
        name = str(props["FunctionName"])
        client = at.client("lambda")
        return name if existing(lambda: client.get_function_configuration(FunctionName=name)) is not None else ""

    def create(self, at: Context, props: Props) -> str:
        client = at.client("lambda")
        given = without(props, "Tags", "ReservedConcurrentExecutions")
        client.create_function(**fit(client, "CreateFunction", {**given, "Tags": tags_of(props)}))
        name = str(props["FunctionName"])
        self._reserve(at, name, {}, props)
        return name

    def _reserve(self, at: Context, name: str, old: Props, new: Props) -> None:
        key = "ReservedConcurrentExecutions"
        if old.get(key) == new.get(key):
            return
        if key in new:
            at.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=int(new[key]))
        else:
            at.client("lambda").delete_function_concurrency(FunctionName=name)

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("lambda")
        if old.get("Code") != new["Code"] or old.get("Architectures") != new.get("Architectures"):
            architectures = {"Architectures": new["Architectures"]} if "Architectures" in new else {}
            given = {"FunctionName": physical, **new["Code"], **architectures}
            client.update_function_code(**fit(client, "UpdateFunctionCode", given))
        others = ("Tags", "Code", "Architectures", "ReservedConcurrentExecutions")
        if without(old, *others) != without(new, *others):
            given = without(new, *others) | {"Environment": new.get("Environment", {"Variables": {}})}
            client.update_function_configuration(**fit(client, "UpdateFunctionConfiguration", given))
        self._reserve(at, physical, old, new)
        added, removed = retag(old, new)
        arn = at.arn("lambda", f"function:{physical}")
        if added:
            client.tag_resource(Resource=arn, Tags=added)
        if removed:
            client.untag_resource(Resource=arn, TagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        found = existing(lambda: at.client("lambda").get_function(FunctionName=physical))
        if found is None:
            return None
        about = found["Configuration"]
        direct = ("FunctionName", "Description", "Role", "Handler", "Runtime", "Architectures", "MemorySize", "Timeout")
        return {one: about.get(one) for one in direct} | {
            "Environment": {"Variables": about.get("Environment", {}).get("Variables", {})},
            "ReservedConcurrentExecutions": found.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
            "Tags": tag_list(found.get("Tags", {})),
        }

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("lambda").delete_function(FunctionName=physical))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"Arn": at.arn("lambda", f"function:{physical}")}


class InvokeConfig(Kind):
    """AWS::Lambda::EventInvokeConfig."""

    identifier = "FunctionName|Qualifier"
    known = frozenset(
        {"FunctionName", "Qualifier", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig"}
    )
    fixed = frozenset({"FunctionName", "Qualifier"})

    def create(self, at: Context, props: Props) -> str:
        client = at.client("lambda")
        given = without(props, "Qualifier") if props.get("Qualifier") == "$LATEST" else props
        client.put_function_event_invoke_config(**fit(client, "PutFunctionEventInvokeConfig", given))
        return f"{props['FunctionName']}|{props['Qualifier']}"

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        self.create(at, new)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        name = physical.partition("|")[0]
        found = existing(lambda: at.client("lambda").get_function_event_invoke_config(FunctionName=name))
        if found is None:
            return None
        target = found.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        return {
            "MaximumRetryAttempts": found.get("MaximumRetryAttempts"),
            "MaximumEventAgeInSeconds": found.get("MaximumEventAgeInSeconds"),
            "DestinationConfig": {"OnFailure": {"Destination": target}} if target else None,
        }

    def delete(self, at: Context, physical: str, props: Props) -> None:
        name = physical.partition("|")[0]
        existing(lambda: at.client("lambda").delete_function_event_invoke_config(FunctionName=name))


class EventSourceMapping(Kind):
    """AWS::Lambda::EventSourceMapping."""

    identifier = "Id"
    fixed = frozenset({"EventSourceArn"})
    known = frozenset(
        {"EventSourceArn", "FunctionName", "BatchSize", "MaximumBatchingWindowInSeconds", "ScalingConfig"}
    )

    def create(self, at: Context, props: Props) -> str:
        client = at.client("lambda")
        return str(client.create_event_source_mapping(**fit(client, "CreateEventSourceMapping", props))["UUID"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("lambda")
        given = {**without(new, "EventSourceArn"), "UUID": physical}
        client.update_event_source_mapping(**fit(client, "UpdateEventSourceMapping", given))

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        found = existing(lambda: at.client("lambda").get_event_source_mapping(UUID=physical))
        if found is None:
            return None
        kept = ("EventSourceArn", "BatchSize", "MaximumBatchingWindowInSeconds", "ScalingConfig")
        return {"FunctionName": found["FunctionArn"]} | {one: found[one] for one in kept if one in found}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("lambda").delete_event_source_mapping(UUID=physical))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"Id": physical, "EventSourceMappingArn": at.arn("lambda", f"event-source-mapping:{physical}")}


class ScheduleGroup(Kind):
    """AWS::Scheduler::ScheduleGroup."""

    name = identifier = "Name"
    fixed = frozenset({"Name"})
    known = frozenset({"Name", "Tags"})

    def create(self, at: Context, props: Props) -> str:
        at.client("scheduler").create_schedule_group(Name=props["Name"], Tags=tag_list(tags_of(props)))
        return str(props["Name"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        added, removed = retag(old, new)
        arn = at.arn("scheduler", f"schedule-group/{physical}")
        if added:
            at.client("scheduler").tag_resource(ResourceArn=arn, Tags=tag_list(added))
        if removed:
            at.client("scheduler").untag_resource(ResourceArn=arn, TagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("scheduler")
        found = existing(lambda: client.get_schedule_group(Name=physical))
        if found is None:
            return None
        return {"Name": physical, "Tags": client.list_tags_for_resource(ResourceArn=found["Arn"]).get("Tags", [])}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("scheduler").delete_schedule_group(Name=physical))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"Arn": at.arn("scheduler", f"schedule-group/{physical}")}


class Schedule(Kind):
    """AWS::Scheduler::Schedule."""

    name = identifier = "Name"
    fixed = frozenset({"Name", "GroupName"})
    known = frozenset(
        {
            *("Name", "Description", "GroupName", "ScheduleExpression", "ScheduleExpressionTimezone", "State"),
            *("FlexibleTimeWindow", "Target"),
        }
    )

    def taken(self, at: Context, props: Props) -> str:
        client, group = at.client("scheduler"), str(props.get("GroupName", "default"))
        found = existing(lambda: client.get_schedule(Name=props["Name"], GroupName=group))
        return str(props["Name"]) if found is not None else ""

    def create(self, at: Context, props: Props) -> str:
        client = at.client("scheduler")
        client.create_schedule(**fit(client, "CreateSchedule", props))
        return str(props["Name"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("scheduler")
        client.update_schedule(**fit(client, "UpdateSchedule", new))

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("scheduler")
        # The physical id is only the name; CloudFormation finds the group the same way.
        listed = client.list_schedules(NamePrefix=physical)["Schedules"]
        group = next((one["GroupName"] for one in listed if one["Name"] == physical), None)
        if group is None:
            return None
        found = client.get_schedule(Name=physical, GroupName=group)
        return {one: found.get(one) for one in self.known if one in found}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        group = str(props.get("GroupName", "default"))
        existing(lambda: at.client("scheduler").delete_schedule(Name=physical, GroupName=group))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {}


class Rule(Kind):
    """AWS::Events::Rule."""

    name = "Name"
    identifier = "Arn"
    fixed = frozenset({"Name", "EventBusName"})
    known = frozenset({"Name", "Description", "EventPattern", "State", "Targets", "Tags"})

    def create(self, at: Context, props: Props) -> str:
        self._put(at, props, tags_of(props))
        if props.get("Targets"):
            self._targets(at, str(props["Name"]), props["Targets"])
        return str(props["Name"])

    def imported(self, identifier: str) -> str:
        return identifier.rpartition("/")[2]

    def _put(self, at: Context, props: Props, tags: dict[str, str]) -> None:
        client = at.client("events")
        given = without(props, "Targets", "Tags", "EventPattern")
        pattern = {"EventPattern": text(props["EventPattern"])} if "EventPattern" in props else {}
        client.put_rule(**fit(client, "PutRule", {**given, **pattern}), **({"Tags": tag_list(tags)} if tags else {}))

    def _targets(self, at: Context, rule: str, targets: Any) -> None:
        client = at.client("events")
        answer = client.put_targets(**fit(client, "PutTargets", {"Rule": rule, "Targets": targets}))
        for one in answer.get("FailedEntries", []):
            raise ValueError(one.get("ErrorMessage", "a target was refused"))

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("events")
        self._put(at, new, {})
        self._targets(at, physical, new.get("Targets", []))
        stale = sorted({one["Id"] for one in old.get("Targets", [])} - {one["Id"] for one in new.get("Targets", [])})
        if stale:
            client.remove_targets(Rule=physical, Ids=stale)
        added, removed = retag(old, new)
        arn = at.arn("events", f"rule/{physical}")
        if added:
            client.tag_resource(ResourceARN=arn, Tags=tag_list(added))
        if removed:
            client.untag_resource(ResourceARN=arn, TagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client, name = at.client("events"), physical.rpartition("/")[2]
        found = existing(lambda: client.describe_rule(Name=name))
        if found is None:
            return None
        targets = client.list_targets_by_rule(Rule=name)["Targets"]
        tags = client.list_tags_for_resource(ResourceARN=found["Arn"]).get("Tags", [])
        pattern = json.loads(found["EventPattern"]) if found.get("EventPattern") else None
        return {
            "Name": name,
            "Description": found.get("Description"),
            "EventPattern": pattern,
            "State": found.get("State"),
            "Targets": targets,
            "Tags": tags,
        }

    def delete(self, at: Context, physical: str, props: Props) -> None:
        client, name = at.client("events"), physical.rpartition("/")[2]
        if existing(lambda: client.describe_rule(Name=name)) is None:
            return
        ids = [one["Id"] for one in client.list_targets_by_rule(Rule=name)["Targets"]]
        if ids:
            client.remove_targets(Rule=name, Ids=ids)
        client.delete_rule(Name=name)

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"Arn": at.arn("events", f"rule/{physical.rpartition('/')[2]}")}


class Alarm(Kind):
    """AWS::CloudWatch::Alarm."""

    name = identifier = "AlarmName"
    fixed = frozenset({"AlarmName"})
    known = frozenset(
        {
            *("AlarmName", "AlarmDescription", "Namespace", "MetricName", "Dimensions", "Statistic", "Period", "Tags"),
            *("ComparisonOperator", "Threshold", "EvaluationPeriods", "TreatMissingData", "AlarmActions", "OKActions"),
        }
    )

    def create(self, at: Context, props: Props) -> str:
        client = at.client("cloudwatch")
        client.put_metric_alarm(**fit(client, "PutMetricAlarm", props))
        return str(props["AlarmName"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("cloudwatch")
        client.put_metric_alarm(**fit(client, "PutMetricAlarm", without(new, "Tags")))
        added, removed = retag(old, new)
        arn = at.arn("cloudwatch", f"alarm:{physical}")
        if added:
            client.tag_resource(ResourceARN=arn, Tags=tag_list(added))
        if removed:
            client.untag_resource(ResourceARN=arn, TagKeys=removed)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client = at.client("cloudwatch")
        listed = client.describe_alarms(AlarmNames=[physical])["MetricAlarms"]
        if not listed:
            return None
        return {one: listed[0].get(one) for one in self.known if one != "Tags"}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("cloudwatch").delete_alarms(AlarmNames=[physical]))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"Arn": at.arn("cloudwatch", f"alarm:{physical}")}


class Dashboard(Kind):
    """AWS::CloudWatch::Dashboard."""

    name = identifier = "DashboardName"
    fixed = frozenset({"DashboardName"})
    known = frozenset({"DashboardName", "DashboardBody"})

    def create(self, at: Context, props: Props) -> str:
        name = str(props["DashboardName"])
        at.client("cloudwatch").put_dashboard(DashboardName=name, DashboardBody=text(props["DashboardBody"]))
        return name

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        self.create(at, new)

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        found = existing(lambda: at.client("cloudwatch").get_dashboard(DashboardName=physical))
        return None if found is None else {"DashboardName": physical, "DashboardBody": found["DashboardBody"]}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        existing(lambda: at.client("cloudwatch").delete_dashboards(DashboardNames=[physical]))


class StackSet(Kind):
    """AWS::CloudFormation::StackSet."""

    name = "StackSetName"
    identifier = "StackSetId"
    fixed = frozenset({"StackSetName", "PermissionModel"})
    known = frozenset(
        {
            *("StackSetName", "Description", "PermissionModel", "Capabilities", "Parameters", "AutoDeployment"),
            *("ManagedExecution", "OperationPreferences", "Tags", "TemplateBody"),
        }
    )

    def create(self, at: Context, props: Props) -> str:
        client = at.client("cloudformation")
        made = client.create_stack_set(**fit(client, "CreateStackSet", without(props, "OperationPreferences")))
        return str(made["StackSetId"])

    def update(self, at: Context, physical: str, old: Props, new: Props) -> None:
        client = at.client("cloudformation")
        client.update_stack_set(**fit(client, "UpdateStackSet", new))

    def read(self, at: Context, physical: str) -> dict[str, Any] | None:
        client, name = at.client("cloudformation"), physical.partition(":")[0]
        found = existing(lambda: client.describe_stack_set(StackSetName=name))
        if found is None:
            return None
        about = found["StackSet"]
        hidden = ("OperationPreferences", "Parameters")
        return {one: about.get(one) for one in self.known if one not in hidden and one in about}

    def delete(self, at: Context, physical: str, props: Props) -> None:
        client = at.client("cloudformation")
        existing(lambda: client.delete_stack_set(StackSetName=physical.partition(":")[0]))

    def attributes(self, at: Context, physical: str) -> dict[str, Any]:
        return {"StackSetId": physical}
