#!/bin/sh
# Kafka's command-line tools: kafka-tools.sh FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts.
set -eu
feature=$1
server=${2:-} topic=${3:-} ca=${4:-}
tools=$(dirname "$0")/../kafka/kafka
dir=$(mktemp -d)
children=
trap 'kill $children 2> /dev/null || true; rm -rf "$dir"' EXIT
# A tool that does not log; the address is added.
tool() { name=$1; shift; "$tools" "$name" --bootstrap-server "$server" "$@" 2> "$dir/log" || { cat "$dir/log" >&2; return 1; }; }
fail() { echo "$*" >&2; exit 1; }
expect() { [ "$1" = "$2" ] || fail "expected '$2', got '$1'"; }
says() { cat > "$dir/said"; grep -Eq -- "$1" "$dir/said" || { cat "$dir/said" >&2; fail "expected $1"; }; }
numbered() { seq "$1" "$2" | sed "s/^/${3:-}/"; }
produce() { tool console-producer --topic "$topic" "$@" > /dev/null; }
consume() { tool console-consumer --topic "$topic" --timeout-ms 20000 "$@"; }
# What is committed of partitions 0 and 1.
committed() { tool consumer-groups --describe --group "$topic" | awk '$1 == g && $4 != "-" { print $3 "=" $4 }' g="$topic" | sort | xargs; }

case $feature in
version) "$tools" topics --version | sed 's/ .*//'; exit ;;
produce)
  for acks in 0 1 all; do
    numbered 0 9 | sed "s/.*/h:x|k&|$acks-&/" |
      produce --command-property acks=$acks --command-property enable.idempotence=false \
        --reader-property parse.headers=true --reader-property 'headers.delimiter=|' \
        --reader-property parse.key=true --reader-property 'key.separator=|'
  done ;;
idempotent) numbered 0 19 | produce --command-property enable.idempotence=true ;;
compression)
  for codec in gzip snappy lz4 zstd; do
    numbered 0 49 "k|$codec-" | produce --compression-codec $codec --reader-property parse.key=true --reader-property 'key.separator=|'
  done
  expect "$(consume --from-beginning --max-messages 200 | wc -l)" 200 ;;
consume)
  for p in 0 1; do
    expect "$(consume --partition $p --offset earliest --max-messages 50 --formatter-property print.timestamp=true \
      --formatter-property print.offset=true --formatter-property print.headers=true --formatter-property print.key=true)" \
      "$(numbered 0 49 | while read -r i; do printf 'CreateTime:%s\tOffset:%s\th:x\tk\t%s\n' $((1000 + i)) "$i" "$p-$i"; done)"
  done
  expect "$(consume --partition 1 --offset 40 --max-messages 10)" "$(numbered 40 49 1-)"
  expect "$(tool get-offsets --topic "$topic" --partitions 0 --time 1025)" "$topic:0:25" ;;
group | kip848)
  case $feature in group) protocol=heartbeat.interval.ms=200 ;; *) protocol=group.protocol=consumer ;; esac
  join() {
    "$tools" console-consumer --bootstrap-server "$server" --topic "$topic" --group "$topic" --from-beginning \
      --command-property $protocol > "$dir/$1" 2> /dev/null &
    children="$children $!"
  }
  until_read() { while [ "$(sort -n "$dir/one" "$dir/two" | uniq | wc -l)" -lt "$1" ]; do sleep 0.2; done; }
  shares() { tool consumer-groups --describe --group "$topic" --members | awk '$1 == g { print $NF }' g="$topic" | sort | xargs; }
  until_shares() { while [ "$(shares)" != "$1" ]; do sleep 0.2; done; }
  leave() { kill "$1"; wait "$1" || true; }
  touch "$dir/one" "$dir/two"
  join one; one=$!
  numbered 0 19 | produce; until_read 20
  join two; two=$!
  [ "$feature" = kip848 ] || until_shares '1 1'
  numbered 20 39 | produce; until_read 40
  until_shares '1 1'
  leave $two
  until_shares 2
  numbered 40 59 | produce; until_read 60
  leave $one
  expect "$(sort -n "$dir/one" "$dir/two")" "$(numbered 0 59)" ;;
commit)
  read_on() { consume --group "$topic" --from-beginning --max-messages "$1" | wc -l; }
  reset() { tool consumer-groups --group "$topic" --topic "$1" --reset-offsets --to-offset "$2" --execute > /dev/null; }
  expect "$(read_on 100)" 100
  expect "$(committed)" '0=50 1=50'
  reset "$topic:0" 7
  expect "$(committed)" '0=7 1=50'
  expect "$(read_on 43)" 43 ;;
topics)
  made=$topic-made
  tool topics --create --topic "$made" --partitions 2 --config retention.ms=1000 > /dev/null
  if tool topics --create --topic "$made" > /dev/null 2>&1; then fail 'created twice'; fi
  tool topics --list | says "^$made$"
  tool topics --alter --topic "$made" --partitions 3
  tool topics --describe --topic "$made" | says 'PartitionCount: 3.*retention.ms=1000'
  config() { tool configs --entity-type topics --entity-name "$made" "$@"; }
  config --alter --add-config segment.ms=5000 --delete-config retention.ms > /dev/null
  config --describe | says 'segment.ms=5000'
  config --describe --all | says 'retention.ms=604800000'
  numbered 1 10 | tool console-producer --topic "$made" > /dev/null
  p=$(tool get-offsets --topic "$made" | sed -n 's/.*:\(.\):10$/\1/p')
  echo '{"version": 1, "partitions": [{"topic": "'"$made"'", "partition": '"$p"', "offset": 4}]}' > "$dir/to"
  tool delete-records --offset-json-file "$dir/to" | says 'low_watermark: 4'
  expect "$(tool get-offsets --topic "$made" --time earliest --partitions "$p")" "$made:$p:4"
  tool broker-api-versions | says 'id: 1 '
  tool topics --delete --topic "$made"
  if tool topics --list | grep -qx "$made"; then fail 'not deleted'; fi ;;
groups)
  groups() { tool consumer-groups --group "$topic" "$@"; }
  listed() { tool consumer-groups --list > "$dir/groups"; sed -n "/^$topic\$/p" "$dir/groups"; }
  touch "$dir/read"
  "$tools" console-consumer --bootstrap-server "$server" --topic "$topic" --group "$topic" --from-beginning \
    > "$dir/read" 2> /dev/null & children=$!
  while [ "$(wc -l < "$dir/read")" -lt 100 ]; do sleep 0.2; done
  expect "$(listed)" "$topic"
  groups --describe --state | says 'range +Stable +1'
  groups --delete 2>&1 | says 'not empty'
  kill "$children"; wait "$children" || true
  expect "$(committed)" '0=50 1=50'
  groups --reset-offsets --topic "$topic:0" --to-offset 3 --execute > /dev/null
  expect "$(committed)" '0=3 1=50'
  groups --delete-offsets --topic "$topic:1" > /dev/null
  expect "$(committed)" '0=3'
  groups --delete > /dev/null
  expect "$(listed)" '' ;;
sasl)
  for mechanism in PLAIN SCRAM-SHA-256 SCRAM-SHA-512; do
    case $mechanism in PLAIN) module=plain.PlainLoginModule ;; *) module=scram.ScramLoginModule ;; esac
    login() {
      printf '%s\n' security.protocol=SASL_PLAINTEXT sasl.mechanism=$mechanism \
        "sasl.jaas.config=org.apache.kafka.common.security.$module required username=\"alice\" password=\"$1\";" > "$dir/login"
    }
    login secret
    echo $mechanism | produce --command-config "$dir/login"
    tool topics --list --command-config "$dir/login" | says "^$topic$"
    login wrong
    if tool topics --list --command-config "$dir/login" > /dev/null 2> "$dir/refused"; then fail "$mechanism: let in"; fi
    says 'SaslAuthenticationException' < "$dir/refused"
  done
  login secret
  expect "$(consume --command-config "$dir/login" --from-beginning --max-messages 3 | sort | xargs)" 'PLAIN SCRAM-SHA-256 SCRAM-SHA-512' ;;
tls)
  printf '%s\n' security.protocol=SSL ssl.truststore.type=PEM ssl.truststore.location="$ca" > "$dir/tls"
  echo tls | produce --command-config "$dir/tls"
  expect "$(consume --command-config "$dir/tls" --from-beginning --max-messages 1)" tls ;;
*) fail "unknown feature $feature" ;;
esac
echo ok
