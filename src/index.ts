export { Ottla } from './ottla.js';
export type { MemoryOptions, OpenOptions } from './ottla.js';
export { Groups } from './ottla-groups.js';
export type { OffsetReset, ResetOffsetsOptions, ResetTo } from './ottla-groups.js';
export { Topics } from './ottla-topics.js';
export type { TopicDescription } from './ottla-topics.js';
export { defineTopic } from './serde.js';
export type {
  DefinitionOptions,
  HeadersIn,
  HeadersOut,
  KeyIn,
  KeyOut,
  TopicDefinition,
  TopicRef,
  ValueIn,
  ValueOut,
} from './serde.js';
export type { Codec, CodecName, SerdeSpec, StandardSchema } from './codec.js';
export type { Headers, HeadersSpec, RawHeaders } from './headers.js';
export type { RedriveOptions } from './redrive.js';
export type { Producer, SendOptions, WaitOptions } from './producer.js';
export type { Transaction } from './producer-transaction.js';
export type { RecordBody, RecordMetadata, RecordToSend } from './producer-record.js';
export type { Consumer } from './consumer.js';
export type {
  AssignorName,
  ConsumerOptions,
  OffsetToCommit,
  PartitionLag,
  RebalanceHook,
  Subscribable,
  Subscribed,
} from './consumer-options.js';
export type { InvalidRecord, OnInvalid } from './consumer-invalid.js';
export type { Concurrency, RetryOptions, RunContext, RunOptions } from './consumer-run-options.js';
export type { RateLimit } from './run-slots.js';
export type { TopicReading, ReadFrom, ReadOptions } from './consumer-read.js';
export type { BatchOf, ConsumerBatch, ConsumerRecord, RecordOf } from './consumer-record.js';
export type {
  Acks,
  Ago,
  CleanupPolicy,
  From,
  Isolation,
  Partitioner,
  ProducerOptions,
  TopicOptions,
} from './options.js';
export type { Compression } from './compression.js';
export type {
  GroupInfo,
  GroupPartitionInfo,
  PartitionInfo,
  PartitionOffset,
  ProducerBatchMessage,
  ProducerMetrics,
  SkippedRange,
} from './engine.js';
export type { GroupState, MemberDescription } from './group.js';
export type {
  Finding,
  NoteCode,
  ProblemCode,
  VerifyNote,
  VerifyOptions,
  VerifyProblem,
  VerifyProgress,
  VerifyReport,
} from './verify-report.js';
export type { FaultControls, Faults } from './faults.js';
export { OttlaError } from './errors.js';
export type { ErrorCode, RecordPlace, WrittenRun } from './errors.js';
export { murmur2, offsetsPartitionFor } from './partitioner.js';
export { assignors } from './assignor.js';
export type { Assignor } from './assignor.js';
export type { AssignorInput, AssignorMember, TopicPartition } from './assignment.js';
export type { Clock, Timer } from './clock.js';
