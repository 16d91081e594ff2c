import {
  partsOf,
  validated,
  type Codec,
  type CodecName,
  type InputOf,
  type OutputOf,
  type StandardSchema,
} from './codec.js';
import { got } from './options.js';
import type { RecordHeaders } from './record.js';

/** Headers as they are read: pairs, in which a name may come more than once. */
export type Headers = readonly (readonly [name: string, value: Buffer | null])[];

/** Headers to send where the topic has no codec for them: pairs, in which a name may come more than once, or an object. */
export type RawHeaders =
  | readonly (readonly [name: string, value: Uint8Array | string | null])[]
  | Readonly<Record<string, Uint8Array | string | null>>;

/**
 * What headers are made of: a codec of their values, of which each stands alone, a schema of the object that
 * they make (with 'string'), or both.
 */
export type HeadersSpec =
  | HeadersCodec
  | StandardSchema
  | { readonly codec: HeadersCodec; readonly schema: StandardSchema };

type HeadersCodec = Exclude<CodecName, 'msgpack-shared'> | Codec<never, unknown>;

/** What may be sent as headers under a spec. */
export type HeadersInputOf<S> = S extends undefined
  ? RawHeaders
  : S extends { readonly schema: StandardSchema<infer I, unknown> }
    ? I
    : S extends StandardSchema<infer I, unknown>
      ? I
      : Readonly<Record<string, InputOf<S> | null>>;

/** What comes back as headers under a spec. */
export type HeadersOutputOf<S> = S extends undefined
  ? Headers
  : S extends { readonly schema: StandardSchema<unknown, infer O> }
    ? O
    : S extends StandardSchema<unknown, infer O>
      ? O
      : Readonly<Record<string, OutputOf<S> | null>>;

/** Turns an object of headers into pairs and back. */
export interface HeadersSerde {
  /** Names the codec of their values in the topic's metadata. */
  readonly name: string;
  /** @throws TypeError for what it cannot take */
  encode(headers: unknown): RecordHeaders;
  /** Of a name that comes more than once the last one counts. */
  decode(pairs: Headers): unknown;
}

/** null: pairs of bytes. @throws TypeError */
export function headersSerdeFor(where: string, spec: unknown): HeadersSerde | null {
  if (spec === undefined) return null;
  const { serde, schema } = partsOf(where, spec, 'string');
  if (serde.share !== undefined) {
    throw new TypeError(`${where}: expected a codec whose values stand alone, got ${serde.name}`);
  }
  return {
    name: serde.name!,
    encode(headers = {}) {
      if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers) {
        throw new TypeError(`expected an object, got ${got(headers)}`);
      }
      if (schema !== null) validated(schema, headers);
      const pairs: [string, Uint8Array | string | null][] = [];
      for (const [name, value] of Object.entries(headers)) {
        if (value !== undefined) pairs.push([name, value === null ? null : serde.encode(value)]);
      }
      return pairs;
    },
    decode(pairs) {
      const headers = Object.fromEntries(
        pairs.map(([name, value]) => [name, value === null ? null : serde.decode(value)]),
      );
      return schema === null ? headers : validated(schema, headers);
    },
  };
}
