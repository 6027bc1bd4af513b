#!/bin/sh
# Makes the root of an authority and its answers anew. Needs OpenSSL 3.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
corpus=$here/../corpus/timestamp
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >ts.cnf <<'CONFIG'
[tsa]
default_tsa = one
[one]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1
clock_precision_digits = 3
tsa_name = yes
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[authority]
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[distinguished]
CONFIG

ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
openssl req -config ts.cnf -section distinguished -x509 $ec -keyout root.key -out root.pem -days 20000 -extensions root \
  -subj "/O=Test Agency/CN=Test Clock Root"
openssl req -config ts.cnf -section distinguished $ec -keyout tsa.key -out tsa.csr -subj "/O=Test Agency/CN=Test Clock"
openssl x509 -req -in tsa.csr -CA root.pem -CAkey root.key -days 20000 -extfile ts.cnf -extensions authority -out tsa.pem

answer() {
  openssl ts -reply -config ts.cnf -section one -queryfile query.tsq -signer tsa.pem -inkey tsa.key -out "$corpus/$1"
}
printf 'stamped' >content
openssl ts -query -data content -sha256 -cert -out query.tsq
answer granted.tsr
openssl ts -query -data content -sha256 -out query.tsq
answer no-certificate.tsr
openssl ts -query -data content -sha512 -cert -out query.tsq
answer refused.tsr
openssl ts -query -data ts.cnf -sha256 -cert -out query.tsq
answer other-content.tsr
cp root.pem "$here"
