import type { Api, Node, Peer } from './protocol/api.js';
import { errorNumber } from './protocol/errors.js';
import { HangUp, MalformedRequest, Reader } from './protocol/reader.js';
import type { SaslLogin } from './protocol/sasl.js';
import { Writer } from './protocol/writer.js';
import { apiVersions, unsupportedVersion } from './requests/api-versions.js';

/** A request whose header was read. */
export interface Exchange {
  readonly overlaps: boolean;
  /** Bytes of its frame. */
  readonly bytes: number;
  /**
   * Reads its body, and begins it.
   * @param weighs told how many bytes what was read takes, beside the frame
   * @returns the frame to answer with, piece by piece; null: there is no answer
   * @throws MalformedRequest, HangUp
   */
  answer(weighs: (bytes: number) => void): Buffer[] | null | Promise<Buffer[] | null>;
}

/** What an element of an array may take in memory, and what is made of it, however few its bytes are. */
const elementBytes = 512;

/**
 * Reads the header of a request (RequestHeader.json). Its body, which the version in the header gives its form,
 * is read when its turn comes: before, it takes no more memory than its bytes.
 * @throws MalformedRequest
 */
export function readRequest(frame: Buffer, node: Node, peer: Peer): Exchange {
  const { login } = peer;
  if (login === null || login.isDone) return exchangeOf(frame, node, peer);
  return {
    overlaps: false,
    bytes: frame.length,
    // What it is depends on how far the login has got by then.
    answer: (weighs) =>
      login.isRaw ? rawAnswer(login, frame) : exchangeOf(frame, node, peer).answer(weighs),
  };
}

function exchangeOf(frame: Buffer, node: Node, peer: Peer): Exchange {
  const { login } = peer;
  const bytes = frame.length;
  const reader = new Reader(frame);
  const key = reader.int16();
  const version = reader.int16();
  const correlationId = reader.int32();
  const api = node.apis.get(key);
  if (api === undefined || version < api.minVersion || version > api.maxVersion) {
    return { overlaps: false, bytes, answer: () => refusal(api, correlationId, node) };
  }
  const isFlexible = version >= api.flexibleFrom;
  const clientId = nullableString(reader) ?? '';
  if (isFlexible) skipTags(reader);
  const written = (response: unknown): Buffer[] | null => {
    if (response === null) return null;
    // Whoever asks for versions knows none yet: the header of this answer never has tags.
    const hasTags = isFlexible && api !== apiVersions;
    return frameOf(correlationId, hasTags, (writer) =>
      api.response(version).write(writer, response),
    );
  };
  return {
    overlaps: api.overlaps,
    bytes,
    answer(weighs) {
      if (login !== null && !login.isDone && !api.isPublic) {
        throw new HangUp(`${api.name} of a client that has not logged in`);
      }
      // Bytes behind it are let be, as by Kafka: librdkafka sends some when it asks for all topics.
      const request = api.request(version).read(reader);
      weighs(reader.elementCount * elementBytes);
      const response = api.handle(request, { node, peer, version, clientId });
      return response instanceof Promise ? response.then(written) : written(response);
    },
  };
}

/**
 * Kafka answers ApiVersions so, with what it has, and hangs up on all others: they get the number of the
 * error alone, with which most responses of old begin.
 */
function refusal(api: Api | undefined, correlationId: number, { apis }: Node): Buffer[] {
  return frameOf(correlationId, false, (writer) => {
    if (api === apiVersions) api.response(0).write(writer, unsupportedVersion(apis.values()));
    else writer.int16(errorNumber('UNSUPPORTED_VERSION'));
  });
}

function frameOf(
  correlationId: number,
  hasTags: boolean,
  body: (writer: Writer) => void,
): Buffer[] {
  const writer = new Writer();
  writer.int32(0);
  writer.int32(correlationId);
  if (hasTags) writer.uvarint(0);
  body(writer);
  const length = writer.length - 4;
  const parts = writer.finish();
  parts[0]!.writeInt32BE(length, 0);
  return parts;
}

/** As clients of old log in: the messages of the mechanism are frames of their own (SaslHandshake 0). */
function rawAnswer(login: SaslLogin, message: Buffer): Buffer[] {
  const answer = login.take(message);
  const length = Buffer.alloc(4);
  length.writeInt32BE(answer.length);
  return [length, answer];
}

function nullableString(reader: Reader): string | null {
  const length = reader.int16();
  if (length < -1) throw new MalformedRequest(`a client id of ${length} bytes`);
  return length === -1 ? null : reader.string(length);
}

function skipTags(reader: Reader): void {
  for (let left = reader.uvarint(); left > 0; left--) {
    reader.uvarint();
    reader.view(reader.uvarint());
  }
}
