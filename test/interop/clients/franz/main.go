// franz-go: franz FEATURE SERVER TOPIC CA. What each feature is to do: matrix-features.ts.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

var ctx, cancel = context.WithTimeout(context.Background(), 60*time.Second)
var args = append(os.Args[1:], "", "", "")
var feature, server, topic, ca = args[0], args[1], args[2], args[3]

func main() {
	defer cancel()
	if feature == "version" {
		info, _ := debug.ReadBuildInfo()
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				fmt.Println(strings.TrimPrefix(module.Version, "v"))
			}
		}
		return
	}
	map[string]func(){
		"produce": produce, "idempotent": idempotent, "compression": compression, "consume": consume, "group": func() { group() },
		"kip848": func() { group(kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())) },
		"commit": commit, "transactions": transactions, "topics": topics, "groups": groups, "sasl": login, "tls": overTls,
	}[feature]()
	fmt.Println("ok")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func expect(is bool, of ...any) {
	if !is {
		panic(fmt.Sprintln(of...))
	}
}

func connect(options ...kgo.Opt) *kgo.Client {
	return must(kgo.NewClient(append(options, kgo.SeedBrokers(server))...))
}

func member(of string, options ...kgo.Opt) *kgo.Client {
	return connect(append(options, kgo.ConsumerGroup(of), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(200*time.Millisecond))...)
}

func send(client *kgo.Client, records ...*kgo.Record) {
	check(client.ProduceSync(ctx, records...).FirstErr())
}

func take(client *kgo.Client, count int) (records []*kgo.Record) {
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		check(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	expect(len(records) == count, "read", len(records))
	return records
}

func numbered(partition int32, first, last int) (records []*kgo.Record) {
	for i := first; i < last; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Append(nil, i)})
	}
	return records
}

func produce() {
	for name, acks := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		client := connect(kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		for i := range 10 {
			send(client, &kgo.Record{Topic: topic, Key: fmt.Append(nil, "k", i), Value: fmt.Append(nil, name, "-", i),
				Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}}})
		}
		client.Close()
	}
}

func idempotent() {
	client := connect(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for _, record := range numbered(0, 0, 20) {
		send(client, record)
	}
}

func compression() {
	// It sends as it is what compression makes no smaller: a slow machine may send the records one by one.
	key := bytes.Repeat([]byte("k"), 200)
	for name, codec := range map[string]kgo.CompressionCodec{"gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
		client := connect(kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerLinger(100*time.Millisecond))
		records := numbered(0, 0, 50)
		for i, record := range records {
			record.Key = key
			record.Value = fmt.Append(nil, name, "-", i)
		}
		send(client, records...)
	}
	take(connect(kgo.ConsumeTopics(topic)), 200)
}

func consume() {
	records := take(connect(kgo.ConsumeTopics(topic)), 100)
	for p := range int32(2) {
		next := int64(0)
		for _, r := range records {
			if r.Partition != p {
				continue
			}
			expect(r.Offset == next && string(r.Value) == fmt.Sprint(p, "-", next), "order", r)
			expect(string(r.Key) == "k" && r.Headers[0].Key == "h" && r.Timestamp.UnixMilli() == 1000+next, r)
			next++
		}
		expect(next == 50, "count", next)
	}
	from := map[string]map[int32]kgo.Offset{topic: {1: kgo.NewOffset().At(40)}}
	for i, r := range take(connect(kgo.ConsumePartitions(from)), 10) {
		expect(string(r.Value) == fmt.Sprint("1-", 40+i), "seek", r)
	}
	listed := must(kadm.NewClient(connect()).ListOffsetsAfterMilli(ctx, 1025, topic))
	expect(listed[topic][0].Offset == 25, listed)
}

func group(protocol ...kgo.Opt) {
	producer := connect(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	read := map[string]int{}
	var clients []*kgo.Client
	owned := map[*kgo.Client]map[int32]bool{}
	changed := func(is bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, client *kgo.Client, moved map[string][]int32) {
			if owned[client] == nil {
				owned[client] = map[int32]bool{}
			}
			for _, p := range moved[topic] {
				if is {
					owned[client][p] = true
				} else {
					delete(owned[client], p)
				}
			}
		}
	}
	join := func() *kgo.Client {
		// A rebalance is let happen between polls only.
		client := member(topic, append(protocol, kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsAssigned(changed(true)),
			kgo.OnPartitionsRevoked(changed(false)), kgo.OnPartitionsLost(changed(false)))...)
		clients = append(clients, client)
		return client
	}
	until := func(is func() bool) {
		for !is() {
			check(ctx.Err())
			for _, client := range clients {
				short, done := context.WithTimeout(ctx, 50*time.Millisecond)
				for _, r := range client.PollFetches(short).Records() {
					read[string(r.Value)]++
				}
				check(client.CommitUncommittedOffsets(ctx))
				client.AllowRebalance()
				done()
			}
		}
	}
	fill := func(first int) {
		send(producer, append(numbered(0, first, first+10), numbered(1, first+10, first+20)...)...)
		until(func() bool { return len(read) == first+20 })
	}
	one := join()
	fill(0)
	two := join()
	isShared := func() bool { return len(owned[one]) == 1 && len(owned[two]) == 1 }
	if len(protocol) == 0 {
		until(isShared)
	}
	fill(20)
	until(isShared)
	clients = clients[:1]
	two.CloseAllowingRebalance()
	until(func() bool { return len(owned[one]) == 2 })
	fill(40)
	one.CloseAllowingRebalance()
	for value, count := range read {
		expect(count == 1, value, "was read", count, "times")
	}
}

func commit() {
	one := member(topic)
	take(one, 100)
	offsets := map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: 7}, 1: {Epoch: -1, Offset: 50}}}
	one.CommitOffsetsSync(ctx, offsets, nil)
	committed := must(kadm.NewClient(connect()).FetchOffsets(ctx, topic))
	expect(committed[topic][0].At == 7 && committed[topic][1].At == 50, committed)
	one.Close()
	two := member(topic)
	for i, r := range take(two, 43) {
		expect(r.Offset == int64(7+i) && r.Partition == 0, r)
	}
	check(two.CommitUncommittedOffsets(ctx))
	two.Close()
}

func transactions() {
	out := topic + "-out"
	id := kgo.TransactionalID(topic)
	session := must(kgo.NewGroupTransactSession(kgo.SeedBrokers(server), id, kgo.ConsumerGroup(topic),
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequireStableFetchOffsets()))
	for _, try := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		word := map[kgo.TransactionEndTry]string{kgo.TryAbort: "no ", kgo.TryCommit: "yes "}[try]
		check(session.Begin())
		for count := 0; count < 100; {
			for _, r := range session.PollFetches(ctx).Records() {
				value := append([]byte(word), r.Value...)
				check(session.ProduceSync(ctx, &kgo.Record{Topic: out, Partition: r.Partition, Value: value}).FirstErr())
				count++
			}
		}
		isCommitted := must(session.End(ctx, try))
		expect(isCommitted == bool(try), "committed", isCommitted)
		committed := must(kadm.NewClient(connect()).FetchOffsets(ctx, topic))
		_, is := committed.Lookup(topic, 0)
		expect(is == bool(try), committed)
	}
	for count, level := range map[int]kgo.IsolationLevel{100: kgo.ReadCommitted(), 200: kgo.ReadUncommitted()} {
		reader := connect(kgo.ConsumeTopics(out), kgo.FetchIsolationLevel(level))
		yes := 0
		for _, r := range take(reader, count) {
			if strings.HasPrefix(string(r.Value), "yes ") {
				yes++
			}
		}
		expect(yes == 100, yes)
		short, done := context.WithTimeout(ctx, 500*time.Millisecond)
		expect(reader.PollFetches(short).NumRecords() == 0, "more")
		done()
		reader.Close()
	}
	// A second holder of the transactional id fences the first.
	check(session.Begin())
	check(session.ProduceSync(ctx, &kgo.Record{Topic: out, Value: []byte("zombie")}).FirstErr())
	_, _, err := connect(id).ProducerID(ctx)
	check(err)
	isCommitted, err := session.End(ctx, kgo.TryCommit)
	expect(!isCommitted && err != nil, "a zombie has committed")
}

func topics() {
	admin := kadm.NewClient(connect())
	made := topic + "-made"
	retention := "1000"
	create := func() error {
		_, err := admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &retention}, made)
		return err
	}
	check(create())
	expect(errors.Is(create(), kerr.TopicAlreadyExists), "created twice")
	must(admin.UpdatePartitions(ctx, 3, made))
	for p, detail := range must(admin.ListTopics(ctx))[made].Partitions {
		expect(p < 3 && detail.Leader == 1, detail)
	}
	config := func(name string) string {
		described := must(must(admin.DescribeTopicConfigs(ctx, made)).On(made, nil))
		at := slices.IndexFunc(described.Configs, func(c kadm.Config) bool { return c.Key == name })
		return described.Configs[at].MaybeValue()
	}
	expect(config("retention.ms") == "1000", config("retention.ms"))
	segment := "5000"
	must(must(admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.ms", Value: &segment},
		{Op: kadm.DeleteConfig, Name: "retention.ms"}}, made)).On(made, nil))
	expect(config("segment.ms") == "5000" && config("retention.ms") == "604800000", "altered")
	producer := connect(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	records := numbered(0, 0, 10)
	for _, record := range records {
		record.Topic = made
	}
	send(producer, records...)
	offsets := kadm.Offsets{}
	offsets.AddOffset(made, 0, 4, -1)
	deleted := must(admin.DeleteRecords(ctx, offsets))
	expect(deleted[made][0].LowWatermark == 4, deleted)
	expect(must(admin.ListStartOffsets(ctx, made))[made][0].Offset == 4, "start")
	expect(must(admin.BrokerMetadata(ctx)).Controller == 1, "controller")
	check(must(admin.DeleteTopic(ctx, made)).Err)
	// A new client: one that is in use remembers metadata for a while.
	expect(!must(kadm.NewClient(connect()).ListTopics(ctx)).Has(made), "deleted")
}

func groups() {
	admin := kadm.NewClient(connect())
	client := member(topic)
	take(client, 100)
	check(client.CommitUncommittedOffsets(ctx))
	listed := func() bool { _, is := must(admin.ListGroups(ctx))[topic]; return is }
	expect(listed(), "listed")
	described := must(admin.DescribeGroups(ctx, topic))[topic]
	expect(described.State == "Stable" && len(described.Members) == 1, described)
	refused, _ := admin.DeleteGroup(ctx, topic)
	expect(errors.Is(refused.Err, kerr.NonEmptyGroup), refused)
	client.Close()
	offsets := func() string {
		all := must(admin.FetchOffsets(ctx, topic))
		at := func(p int32) int64 {
			if offset, is := all.Lookup(topic, p); is {
				return offset.At
			}
			return -1
		}
		return fmt.Sprint(at(0), " ", at(1))
	}
	expect(offsets() == "50 50", offsets())
	changed := kadm.Offsets{}
	changed.AddOffset(topic, 0, 3, -1)
	check(admin.CommitAllOffsets(ctx, topic, changed))
	expect(offsets() == "3 50", offsets())
	some := kadm.TopicsSet{}
	some.Add(topic, 1)
	must(admin.DeleteOffsets(ctx, topic, some))
	expect(offsets() == "3 -1", offsets())
	check(must(admin.DeleteGroup(ctx, topic)).Err)
	expect(!listed(), "deleted")
}

func roundTrip(name string, options ...kgo.Opt) {
	client := connect(append(options, kgo.ConsumeTopics(topic))...)
	defer client.Close()
	send(client, &kgo.Record{Topic: topic, Value: []byte(name)})
	for {
		fetches := client.PollFetches(ctx)
		check(fetches.Err())
		for _, r := range fetches.Records() {
			if string(r.Value) == name {
				return
			}
		}
	}
}

func login() {
	for _, password := range []string{"secret", "wrong"} {
		scrams := scram.Auth{User: "alice", Pass: password}
		for _, mechanism := range []sasl.Mechanism{plain.Auth{User: "alice", Pass: password}.AsMechanism(),
			scrams.AsSha256Mechanism(), scrams.AsSha512Mechanism()} {
			if password == "secret" {
				roundTrip(mechanism.Name(), kgo.SASL(mechanism))
			} else {
				err := connect(kgo.SASL(mechanism)).Ping(ctx)
				expect(errors.Is(err, kerr.SaslAuthenticationFailed), err)
			}
		}
	}
}

func overTls() {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must(os.ReadFile(ca)))
	roundTrip("tls", kgo.DialTLSConfig(&tls.Config{RootCAs: pool}))
}
