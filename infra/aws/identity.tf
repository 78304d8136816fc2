# The function's own role; rights.yaml lists what it may do and why.
resource "aws_iam_role" "function" {
  name                 = var.function_name
  description          = "Keeps Tailpipe's cost exports alive."
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Lambda"
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  name   = "reconcile"
  role   = aws_iam_role.function.id
  policy = local.policies.function
}

resource "aws_iam_role_policies_exclusive" "function" {
  role_name    = aws_iam_role.function.name
  policy_names = [aws_iam_role_policy.function.name]
}

resource "aws_iam_role_policy_attachments_exclusive" "function" {
  role_name   = aws_iam_role.function.name
  policy_arns = []
}
