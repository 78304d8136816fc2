#!/bin/sh
# Prove that the trusted issuer is what it says, before Google accepts its tokens; Terraform runs it.
set -eu

refuse() {
    echo "$1" >&2
    echo "Compare tailpipe_issuer with Tailpipe's onboarding page, character by character, then apply again." >&2
    exit 1
}

command -v curl >/dev/null || {
    echo "curl is needed to look at the issuer: install it and apply again." >&2
    exit 1
}

url="${ISSUER%/}/.well-known/openid-configuration"
# Without --location curl follows no redirect: the document has to be the issuer's own.
answer=$(curl --silent --show-error --proto '=https' --max-time 20 --max-filesize 1000000 \
    --write-out '\n%{http_code} %{remote_ip}' "$url") || refuse "The issuer could not be read at $url (see above)."
told=$(printf '%s\n' "$answer" | tail -n 1)
[ "${told%% *}" = 200 ] || refuse "$url answers ${told%% *} instead of 200. Redirects are not followed."

# Behind a proxy the address is the proxy's.
if [ -z "${https_proxy:-}${HTTPS_PROXY:-}${all_proxy:-}${ALL_PROXY:-}" ]; then
    case "${told#* }" in
    0.* | 10.* | 127.* | 169.254.* | 192.168.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].* | 192.0.0.* | \
        100.6[4-9].* | 100.[7-9][0-9].* | 100.1[01][0-9].* | 100.12[0-7].* | \
        :: | ::1 | ::ffff:* | [fF][cCdD]* | [fF][eE][89aAbB]*)
        refuse "The issuer's name leads to ${told#* }, which is not a public address."
        ;;
    esac
fi

named=$(printf '%s\n' "$answer" | sed '$d' | tr -d '\r\n' |
    sed -n 's/.*"issuer"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' | sed 's#\\/#/#g' | tr -cd '[:print:]' | cut -c 1-200)
[ "$named" = "$ISSUER" ] || refuse "$url says that the issuer is '${named:-nothing}', not '$ISSUER'."
