"""The resource types that the local CloudFormation carries out, by name."""

from __future__ import annotations

from localcloud.aws.stacks import kinds_compute, kinds_data
from localcloud.aws.stacks.kinds import Kind

KINDS: dict[str, Kind] = {
    "AWS::Logs::LogGroup": kinds_data.LogGroup(),
    "AWS::S3::Bucket": kinds_data.Bucket(),
    "AWS::S3::BucketPolicy": kinds_data.BucketPolicy(),
    "AWS::SNS::Subscription": kinds_data.Subscription(),
    "AWS::SNS::Topic": kinds_data.Topic(),
    "AWS::SNS::TopicPolicy": kinds_data.TopicPolicy(),
    "AWS::SQS::Queue": kinds_data.Queue(),
    "AWS::SQS::QueuePolicy": kinds_data.QueuePolicy(),
    "AWS::CloudFormation::StackSet": kinds_compute.StackSet(),
    "AWS::CloudWatch::Alarm": kinds_compute.Alarm(),
    "AWS::CloudWatch::Dashboard": kinds_compute.Dashboard(),
    "AWS::Events::Rule": kinds_compute.Rule(),
    "AWS::IAM::Role": kinds_compute.Role(),
    "AWS::Lambda::EventInvokeConfig": kinds_compute.InvokeConfig(),
    "AWS::Lambda::EventSourceMapping": kinds_compute.EventSourceMapping(),
    "AWS::Lambda::Function": kinds_compute.Function(),
    "AWS::Scheduler::Schedule": kinds_compute.Schedule(),
    "AWS::Scheduler::ScheduleGroup": kinds_compute.ScheduleGroup(),
}
