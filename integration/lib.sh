# Shared by integration/demo, integration/test and integration/bench: what this machine needs before anything is built.
# Meant to be sourced; leaves the shell in the top folder of the repository.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Debian package, and a file that tells it is there.
PACKAGES=(
  "gcc /usr/bin/gcc"
  "pkg-config /usr/bin/pkg-config"
  "libssl-dev /usr/include/openssl/ssl.h"
  "openssl /usr/bin/openssl"
  "libxml2-utils /usr/bin/xmllint"
  "unzip /usr/bin/unzip"
  "python3 /usr/bin/python3"
  "postfix /usr/sbin/postfix"
  "dovecot-core /usr/sbin/dovecot"
  "dovecot-imapd /usr/lib/dovecot/imap"
  "dovecot-pop3d /usr/lib/dovecot/pop3"
  "dovecot-lmtpd /usr/lib/dovecot/lmtp"
  "clamav-daemon /usr/sbin/clamd"
  "libsofthsm2 /usr/lib/softhsm/libsofthsm2.so"
  "softhsm2 /usr/bin/softhsm2-util"
  "opensc /usr/bin/pkcs11-tool"
  "opensc-pkcs11 /usr/lib/x86_64-linux-gnu/pkcs11-spy.so"
  "p11-kit /usr/libexec/p11-kit/p11-kit-server"
  "p11-kit-modules /usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so"
  "slapd /usr/sbin/slapd"
  "nginx-light /usr/sbin/nginx"
  "libfaketime /usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
)

# Installs what is missing, without configuring or starting a mail service of the machine itself.
install_packages() {
  local missing=() package file policy=/usr/sbin/policy-rc.d own_policy=
  for entry in "${PACKAGES[@]}"; do
    read -r package file <<<"$entry"
    [[ -e $file ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  echo "Installing ${missing[*]} ..."
  apt-get -qq update
  echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections
  echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections
  # While this file says 101, packages do not start their services. One that the machine has already is not ours.
  if [[ ! -e $policy ]]; then
    own_policy=$policy
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" >/dev/null
  if [[ -n $own_policy ]]; then
    rm -f "$own_policy"
    trap - EXIT
  fi
}

prepare() {
  [[ $(id -u) == 0 ]] || die "Postfix and Dovecot start as root: run this as root."
  [[ -r /etc/debian_version ]] || die "This needs Debian 12 (its Postfix and Dovecot)."
  command -v cargo >/dev/null || die "This needs Rust with cargo (https://rustup.rs)."
  install_packages
}

# The path of a program that cargo built: profile, name.
built() {
  local read_target='import json, sys; print(json.load(sys.stdin)["target_directory"])'
  printf '%s/%s/%s' "$(cargo metadata --format-version 1 --no-deps | python3 -c "$read_target")" "$1" "$2"
}
