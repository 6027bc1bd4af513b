#!/bin/sh
# Makes every certificate and key of this folder anew, then every signature of ../signatures. Needs OpenSSL 3.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
signatures=$here/../signatures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >ca.cnf <<'CONFIG'
[ca]
default_ca = one
[one]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
default_crl_days = 20000
policy = anything
unique_subject = no
copy_extensions = none
[anything]
organizationName = optional
commonName = optional
emailAddress = optional

[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issuing]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
nameConstraints = critical, permitted;email:alfa.example, permitted;email:.alfa.example
[provider]
keyUsage = critical, digitalSignature
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = email:posta-certificata@alfa.example
[other-address]
keyUsage = critical, digitalSignature
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = email:posta-certificata@beta.example
[no-eku]
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = email:posta-certificata@alfa.example
[server-eku]
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = email:posta-certificata@alfa.example
[encipherment]
keyUsage = critical, keyEncipherment
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = email:posta-certificata@alfa.example
[ca-signer]
basicConstraints = CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = emailProtection
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = email:posta-certificata@alfa.example
[careless]
basicConstraints = CA:FALSE
keyUsage = keyEncipherment
extendedKeyUsage = critical, serverAuth
subjectKeyIdentifier = none
authorityKeyIdentifier = none
subjectAltName = critical, email:someone@alfa.example
CONFIG
: >index
echo 1000 >serial

key() { openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:"$2" -out "$1.key" 2>/dev/null; }
# certificate NAME KEY SUBJECT SECTION ISSUER [options of openssl ca]
certificate() {
    name=$1 key=$2 subject=$3 section=$4 issuer=$5
    shift 5
    openssl req -new -key "$key.key" -subj "$subject" -out "$name.csr"
    case $issuer in self) by="-selfsign -keyfile $key.key" ;; *) by="-cert $issuer.pem -keyfile $issuer.key" ;; esac
    # shellcheck disable=SC2086
    openssl ca -batch -notext -config ca.cnf -extensions "$section" -in "$name.csr" -out "$name.pem" $by \
        -startdate 20200101000000Z -enddate 20900101000000Z "$@" 2>/dev/null
}

for name in root other-root issuing provider; do key "$name" 2048; done
key weak 1024

certificate root root "/O=Test Agency/CN=Test Root" root self
certificate other-root other-root "/O=Another Agency/CN=Other Root" root self
certificate issuing issuing "/O=Test Agency/CN=Test Issuing CA" issuing root
alfa="/O=Alfa PEC S.p.A./CN=Posta Certificata Alfa"
certificate provider provider "$alfa" provider issuing
certificate other-address provider "/O=Beta PEC/CN=Beta" other-address issuing
certificate expired provider "$alfa" provider issuing -enddate 20210101000000Z
certificate no-eku provider "$alfa" no-eku issuing
certificate server-eku provider "$alfa" server-eku issuing
certificate encipherment provider "$alfa" encipherment issuing
certificate ca-signer provider "$alfa" ca-signer issuing
certificate weak weak "$alfa" provider issuing
certificate careless weak "/O=Somebody Else/emailAddress=someone@alfa.example" careless issuing -md sha1
openssl ca -config ca.cnf -gencrl -cert issuing.pem -keyfile issuing.key 2>/dev/null | openssl crl -outform DER -out issuing.crl

cp root.pem other-root.pem issuing.pem provider.pem other-address.pem expired.pem no-eku.pem server-eku.pem \
    encipherment.pem ca-signer.pem weak.pem careless.pem issuing.crl "$here"
cp provider.key "$here/provider-key.pem"
cp root.key "$here/unrelated-key.pem"
cp weak.key "$here/weak-key.pem"
openssl rsa -traditional -in provider.key -out "$here/provider-key-pkcs1.pem" 2>/dev/null
openssl pkcs8 -topk8 -v2 aes256 -in provider.key -passout pass:segreto -out "$here/provider-key-encrypted.pem"
cat issuing.pem root.pem >chain.pem
openssl pkcs12 -export -inkey provider.key -in provider.pem -certfile chain.pem -passout pass:segreto -out "$here/provider.p12"
openssl pkcs12 -export -legacy -inkey provider.key -in provider.pem -certfile chain.pem -passout pass:segreto \
    -out "$here/provider-legacy.p12"

content=$signatures/content.eml
printf 'Content-Type: text/plain; charset="iso-8859-1"\r\n\r\nMessaggio di posta certificata\r\n' >"$content"
sign() { # NAME SIGNER KEY [options of openssl cms]
    name=$1 signer=$2 key=$3
    shift 3
    openssl cms -sign -binary -in "$content" -signer "$signer.pem" -inkey "$key.key" -outform DER \
        -out "$signatures/$name.p7s" "$@"
}
sign plain provider provider -md sha256 -certfile issuing.pem
sign attached-streamed provider provider -md sha256 -certfile issuing.pem -stream
sign sha1 provider provider -md sha1
sign sha384 provider provider -md sha384
sign sha512 provider provider -md sha512
sign pss-sha256 provider provider -md sha256 -keyopt rsa_padding_mode:pss
sign pss-sha512-salt-20 provider provider -md sha512 -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:20
sign key-identifier provider provider -md sha256 -keyid
sign no-attributes provider provider -md sha256 -noattr
sign attached provider provider -md sha256 -nodetach
sign other-content-type provider provider -md sha256 -econtent_type 1.2.840.113549.1.9.16.1.4
sign no-certificate provider provider -md sha256 -nocerts
sign weak-key weak weak -md sha256
openssl cms -sign -binary -in "$content" -signer provider.pem -inkey provider.key -signer weak.pem -inkey weak.key \
    -md sha256 -outform DER -out "$signatures/two-signers.p7s"
