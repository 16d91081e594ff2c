/*
 * How a message of Kafka's protocol is written down: an object of fields, in the order in which they lie in
 * the bytes. A field may be there from a version on (`since`) up to one (`until`), may be null from a version
 * on (`nullable`), and may be tagged (KIP-482). The types of what is read and written follow from it.
 */

/** What a field is in the bytes. */
export type Kind =
  | 'bool'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'bigint64'
  | 'uuid'
  | 'string'
  | 'bytes'
  | 'records'
  | 'array'
  | 'struct';

export interface FieldOptions<T> {
  /** The first version that has it. @default 0 */
  readonly since?: number;
  /** The last version that has it. @default the newest */
  readonly until?: number;
  /** The first version in which it may be null. @default none */
  readonly nullable?: number;
  /** Its tag: it is written only if it is not its default. @default none: it has a place of its own */
  readonly tag?: number;
  /**
   * What it is where a version has it not, and what a writer may leave out. @default null where it may be
   * null, else empty or 0
   */
  readonly default?: T;
}

/** One field: `Out` is what it is read as, `In` what may be written. */
export interface Field<Out = unknown, In = unknown> {
  readonly kind: Kind;
  readonly options: FieldOptions<unknown>;
  /** Of an array: what it is made of. */
  readonly element: Field | null;
  /** Of a struct. */
  readonly fields: Schema | null;
  /** For the compiler only. */
  readonly types?: readonly [Out, In];
}

export type Schema = Readonly<Record<string, Field>>;

type OutOf<F> = F extends Field<infer Out, infer _In> ? Out : never;
type InOf<F> = F extends Field<infer _Out, infer In> ? In : never;
type OptionalNames<S> = { [K in keyof S]: undefined extends InOf<S[K]> ? K : never }[keyof S];

/** What a message is read as. */
export type Decoded<S extends Schema> = { readonly [K in keyof S]: OutOf<S[K]> };

/** What a message may be written of: fields with a default may be left out. */
export type Encodable<S extends Schema> = {
  readonly [K in Exclude<keyof S, OptionalNames<S>>]: InOf<S[K]>;
} & { readonly [K in OptionalNames<S>]?: InOf<S[K]> };

type Null<O> = O extends { readonly nullable: number } ? null : never;
type LeftOut<O> = O extends { readonly default: unknown } ? undefined : never;
type FieldOf<O, Out, In = Out> = Field<Out | Null<O>, In | Null<O> | LeftOut<O>>;

function field<Out, In>(
  kind: Kind,
  options: FieldOptions<unknown> = {},
  element: Field | null = null,
  fields: Schema | null = null,
): Field<Out, In> {
  return { kind, options, element, fields };
}

export function bool<const O extends FieldOptions<boolean>>(options?: O): FieldOf<O, boolean> {
  return field('bool', options);
}

export function int8<const O extends FieldOptions<number>>(options?: O): FieldOf<O, number> {
  return field('int8', options);
}

export function int16<const O extends FieldOptions<number>>(options?: O): FieldOf<O, number> {
  return field('int16', options);
}

export function int32<const O extends FieldOptions<number>>(options?: O): FieldOf<O, number> {
  return field('int32', options);
}

/** Offsets and times: beyond 2^53 inexact. */
export function int64<const O extends FieldOptions<number>>(options?: O): FieldOf<O, number> {
  return field('int64', options);
}

/** Producer ids: exact. */
export function bigint64<const O extends FieldOptions<bigint>>(options?: O): FieldOf<O, bigint> {
  return field('bigint64', options);
}

/** 16 bytes, as their 22 characters of base64url: the form that Kafka shows them in. */
export function uuid<const O extends FieldOptions<string>>(options?: O): FieldOf<O, string> {
  return field('uuid', options);
}

export function string<const O extends FieldOptions<string | null>>(
  options?: O,
): FieldOf<O, string> {
  return field('string', options);
}

/** Read as a copy, so that who keeps it does not keep the request. */
export function bytes<const O extends FieldOptions<Buffer | null>>(
  options?: O,
): FieldOf<O, Buffer> {
  return field('bytes', options);
}

/** Record batches: read as a view of the request, and written without a copy. */
export function records<const O extends FieldOptions<Buffer | null>>(
  options?: O,
): FieldOf<O, Buffer> {
  return field('records', options);
}

/** Of one kind of field. */
export function arrayOf<Out, In, const O extends FieldOptions<readonly unknown[] | null>>(
  element: Field<Out, In>,
  options?: O,
): FieldOf<O, readonly Out[], readonly In[]> {
  return field('array', options, element);
}

/** Of structs with these fields. */
export function array<S extends Schema, const O extends FieldOptions<readonly unknown[] | null>>(
  fields: S,
  options?: O,
): FieldOf<O, readonly Decoded<S>[], readonly Encodable<S>[]> {
  return field('array', options, field('struct', {}, null, fields));
}

/** One that is always there. */
export function struct<S extends Schema>(fields: S): Field<Decoded<S>, Encodable<S>>;
/** A tagged struct, or one that may be null (with a byte before it that tells): left out, it is null. */
export function struct<S extends Schema>(
  fields: S,
  options: FieldOptions<null> & ({ readonly tag: number } | { readonly nullable: number }),
): Field<Decoded<S> | null, Encodable<S> | null | undefined>;
export function struct(fields: Schema, options: FieldOptions<null> = {}): Field {
  return field('struct', options, null, fields);
}
