"""What a deployment consists of besides the function's code: schedules, event rules and the state they leave."""
