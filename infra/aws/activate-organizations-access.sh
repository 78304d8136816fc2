# Switches on StackSets' access to the organization. Run by organization.tf; running it again changes nothing.
set -eu

if ! command -v aws >/dev/null; then
  if [ "$ALREADY" = true ]; then
    echo "StackSets' access to the organization is on already."
    exit 0
  fi
  echo "The AWS CLI was not found: install it, or run 'aws cloudformation activate-organizations-access' elsewhere and set organizations_access = \"require\"." >&2
  exit 1
fi

# The CLI finds its own credentials, which may differ from the provider's.
account=$(aws sts get-caller-identity --query Account --output text)
if [ "$account" != "$EXPECTED_ACCOUNT" ]; then
  echo "The AWS CLI acts in account $account, Terraform's provider in $EXPECTED_ACCOUNT: set AWS_PROFILE so that both are the same." >&2
  exit 1
fi

aws cloudformation activate-organizations-access
