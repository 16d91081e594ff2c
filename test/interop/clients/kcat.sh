#!/bin/sh
# kcat (librdkafka): kcat.sh FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts.
set -eu
feature=$1
server=${2:-} topic=${3:-} ca=${4:-}
client() { kcat -b "$server" -q "$@"; }
fail() { echo "$*" >&2; exit 1; }
expect() { [ "$1" = "$2" ] || fail "expected '$2', got '$1'"; }
numbered() { seq "$1" "$2" | sed "s/^/${3:-}/"; }

case $feature in
version) kcat -V | sed -n 's/.*Version \([0-9.]*\) .*librdkafka \([0-9.]*\).*/\1, librdkafka \2/p'; exit ;;
produce)
  for acks in 0 1 all; do
    numbered 0 9 | sed "s/.*/k&:$acks-&/" | client -P -t "$topic" -K: -H h=x -X acks="$acks"
  done ;;
idempotent) numbered 0 19 | client -P -t "$topic" -p 0 -X enable.idempotence=true ;;
compression)
  # It sends as it is what compression makes no smaller: a slow machine may send the records one by one.
  key=$(printf '%0200d' 0)
  for codec in gzip snappy lz4 zstd; do numbered 0 49 $codec- | client -P -t "$topic" -p 0 -k "$key" -z $codec -X linger.ms=200; done
  expect "$(client -C -t "$topic" -p 0 -o beginning -e | wc -l)" 200 ;;
consume)
  for p in 0 1; do
    expect "$(client -C -t "$topic" -p $p -o beginning -e -f '%o %T %k %h %s\n')" \
      "$(numbered 0 49 | while read -r i; do echo "$i $((1000 + i)) k h=x $p-$i"; done)"
  done
  expect "$(client -C -t "$topic" -p 1 -o 40 -e)" "$(numbered 40 49 1-)"
  expect "$(kcat -b "$server" -Q -t "$topic:0:1025")" "$topic [0] offset 25" ;;
group)
  dir=$(mktemp -d)
  trap 'kill $one $two 2> /dev/null || true; rm -rf "$dir"' EXIT
  join() {
    kcat -b "$server" -G "$topic" -u -X auto.offset.reset=earliest -X heartbeat.interval.ms=200 "$topic" \
      > "$dir/$1" 2> "$dir/$1.log" &
  }
  until_read() { while [ "$(sort -n "$dir/one" "$dir/two" | uniq | wc -l)" -lt "$1" ]; do sleep 0.1; done; }
  until_assigned() { while ! grep -c assigned "$dir/$1.log" | grep -q "$2"; do sleep 0.1; done; }
  fill() {
    numbered "$1" $(($1 + 9)) | client -P -t "$topic" -p 0
    numbered $(($1 + 10)) $(($1 + 19)) | client -P -t "$topic" -p 1
  }
  touch "$dir/one" "$dir/two"
  join one; one=$! two=
  fill 0; until_read 20
  join two; two=$!
  until_assigned two 1; until_assigned one 2
  fill 20; until_read 40
  kill $two; wait $two || true
  until_assigned one 3
  fill 40; until_read 60
  kill $one; wait $one || true
  expect "$(sort -n "$dir/one" "$dir/two")" "$(numbered 0 59)" ;;
commit)
  read_on() { kcat -b "$server" -G "$topic" -q -X auto.offset.reset=earliest -e "$topic" | wc -l; }
  expect "$(read_on)" 100
  expect "$(read_on)" 0 ;;
sasl)
  # Its librdkafka says its nonce of SCRAM twice, which Kafka takes no longer (CVE-2024-56128).
  login() {
    client -X security.protocol=SASL_PLAINTEXT -X sasl.mechanism=PLAIN -X sasl.username=alice -X sasl.password="$@" -t "$topic" -p 0
  }
  echo in | login secret -P
  expect "$(login secret -C -o beginning -e)" in
  if login wrong -C -o beginning -e > /dev/null 2>&1; then fail 'let in'; fi ;;
tls)
  tls() { client -X security.protocol=SSL -X ssl.ca.location="$ca" -t "$topic" -p 0 "$@"; }
  echo tls | tls -P
  expect "$(tls -C -o beginning -e)" tls ;;
*) fail "unknown feature $feature" ;;
esac
echo ok
