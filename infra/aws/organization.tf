# No resource of the provider switches on StackSets' access to the organization, so the AWS CLI does. It is
# never switched off again on purpose: other StackSets of the organization depend on it.
resource "terraform_data" "organizations_access" {
  count = local.members && var.organizations_access == "activate" ? 1 : 0

  input = local.account
  # An organization trusts StackSets or does not: an account that manages another one than before asks again.
  triggers_replace = [local.organization.id]

  provisioner "local-exec" {
    interpreter = ["/bin/sh"]
    command     = "${path.module}/activate-organizations-access.sh"

    environment = {
      EXPECTED_ACCOUNT = local.account
      AWS_REGION       = local.region
      ALREADY          = contains(try(local.organization.aws_service_access_principals, []), "member.org.stacksets.cloudformation.amazonaws.com")
    }
  }

  depends_on = [terraform_data.inputs]
}
