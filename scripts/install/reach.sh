# shellcheck shell=sh
# Proxies, mirrors and certificates of earlier runs, for install.sh, which reads this file. A variable of this run counts more, and
# so does an empty one. See nqrust.host.environment, which writes the values quoted for a shell.

REMEMBERED=/var/lib/nqrust-microvm/reach.env
recall() {
    [ -f "$REMEMBERED" ] && [ -z "$(find "$REMEMBERED" \( ! -user 0 -o -perm /077 \))" ] || return 0
    while IFS= read -r line; do
        name=${line%%=*}
        case $name in
            *[!A-Za-z0-9_]*) continue ;;
            *_proxy | *_PROXY | SSL_CERT_FILE | SSL_CERT_DIR | *_CA_BUNDLE | NODE_EXTRA_CA_CERTS | CARGO_HTTP_CAINFO | PIP_* | UV_*) ;;
            *) continue ;;
        esac
        lower=$(printf '%s' "$name" | tr '[:upper:]' '[:lower:]')
        upper=$(printf '%s' "$name" | tr '[:lower:]' '[:upper:]')
        given=''
        eval "given=\${$lower+yes}\${$upper+yes}"
        case $recalled in *" $lower "*) given='' ;; esac # the file may have both cases
        if [ -z "$given" ] && (eval "export $line") 2>/dev/null; then # nqr quoted it for a shell
            eval "export $line"
            recalled="$recalled$lower "
        fi
    done <"$REMEMBERED"
}
recalled=' '
recall
ca=${SSL_CERT_FILE:-${CURL_CA_BUNDLE:-${REQUESTS_CA_BUNDLE:-}}} # package managers read no such variable
trusting_dnf() {
    [ -z "$ca" ] || set -- "--setopt=sslcacert=$ca" "$@"
    LC_ALL=C LANGUAGE='' dnf "$@" # Python follows LANGUAGE in any locale
}
