#!/bin/sh
# Publish the function's package with the operator's own sign-in (az login); Terraform runs it.
set -eu

command -v az >/dev/null || {
    echo "The Azure CLI is needed to publish the package: install it, run az login, and apply again." >&2
    exit 1
}

# Publishing by user name and password is switched off: the command below signs in by Microsoft Entra ID.
for kind in scm ftp; do
    az resource update --only-show-errors --output none --subscription "$SUBSCRIPTION" \
        --resource-group "$RESOURCE_GROUP" --namespace Microsoft.Web --parent "sites/$FUNCTION_NAME" \
        --resource-type basicPublishingCredentialsPolicies --name "$kind" --set properties.allow=false
done

# A new role assignment takes up to ten minutes until storage knows it, and until then the upload is refused.
tries=20
until az functionapp deployment source config-zip --only-show-errors --output none --subscription "$SUBSCRIPTION" \
    --resource-group "$RESOURCE_GROUP" --name "$FUNCTION_NAME" --src "$PACKAGE"; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
        echo "The package could not be published; the lines above say why. Apply again to go on from here." >&2
        exit 1
    fi
    echo "not published yet; trying again in 45 seconds ($tries left)" >&2
    sleep 45
done
