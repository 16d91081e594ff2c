import type { Broker } from '../../broker.js';
import type { FetchSessions } from '../fetch-sessions.js';
import type { SpareBuffers } from '../spare-buffers.js';
import { coderOf, type Coder } from './coder.js';
import type { SaslLogin } from './sasl.js';
import type { Decoded, Encodable, Schema } from './schema.js';

/** Where clients reach a server. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** What is left of the bytes that answers may have, those of all clients together. */
export interface AnswerRoom {
  /** @returns how many there are of so many: the caller has them until it gives them back */
  take(bytes: number): number;
  giveBack(bytes: number): void;
}

/** The server, as its requests see it: the one node of a cluster. */
export interface Node {
  readonly broker: Broker;
  readonly nodeId: number;
  readonly clusterId: string;
  readonly endpoint: Endpoint;
  /** What is offered, by key. */
  readonly apis: ReadonlyMap<number, Api>;
  /** Whether what names an unknown topic creates it, where a client allows that. */
  readonly autoCreateTopics: boolean;
  /** Of a topic whose creator leaves it open. */
  readonly defaultPartitions: number;
  readonly fetchSessions: FetchSessions;
  readonly answerRoom: AnswerRoom;
  /** For what is read to be sent. */
  readonly spareBuffers: SpareBuffers;
}

/** Who sends requests. */
export interface Peer {
  /** As Kafka shows it: '/127.0.0.1'; of a stream in this process or a path, '/'. */
  readonly clientHost: string;
  /** Aborted once nobody waits for answers: it has gone, or the server closes. */
  readonly signal: AbortSignal;
  /** Whether it has sent another request, which waits for this one's answer. */
  readonly hasQueued: boolean;
  /** Called when it sends another request; null: nobody wants to know. */
  onQueued: (() => void) | null;
  /** null: nobody is asked who they are. */
  readonly login: SaslLogin | null;
  /** Takes no more requests: those under way are answered, then it is cut. */
  end(): void;
}

export interface RequestContext {
  readonly node: Node;
  readonly peer: Peer;
  readonly version: number;
  /** '' if it has none. */
  readonly clientId: string;
}

/** One kind of request. */
export interface Api {
  readonly key: number;
  readonly name: string;
  readonly minVersion: number;
  readonly maxVersion: number;
  /** The first version with compact lengths and tagged fields (KIP-482). */
  readonly flexibleFrom: number;
  /** Whether the next request of its connection may begin before this one is answered. */
  readonly overlaps: boolean;
  /** Whether it is for clients, too, that have not proved who they are. */
  readonly isPublic: boolean;
  /** What its request is made of, in all versions. */
  readonly fields: Schema;
  request(version: number): Coder;
  response(version: number): Coder;
  /** null: there is no answer. */
  handle(request: unknown, context: RequestContext): unknown;
}

export interface ApiDefinition<Q extends Schema, A extends Schema> {
  readonly key: number;
  readonly name: string;
  readonly versions: readonly [oldest: number, newest: number];
  /** @default none */
  readonly flexible?: number;
  /** @default false */
  readonly overlaps?: boolean;
  /** @default false */
  readonly isPublic?: boolean;
  readonly request: Q;
  readonly response: A;
  readonly handle: (
    request: Decoded<Q>,
    context: RequestContext,
  ) => Encodable<A> | null | Promise<Encodable<A> | null>;
}

/** A request, its response, and what answers it. */
export function api<Q extends Schema, A extends Schema>(definition: ApiDefinition<Q, A>): Api {
  const { key, name, versions, flexible = Infinity } = definition;
  const { overlaps = false, isPublic = false } = definition;
  const coders = (schema: Schema): ((version: number) => Coder) => {
    const made = new Map<number, Coder>();
    return (version) => {
      let coder = made.get(version);
      if (coder === undefined) {
        coder = coderOf(schema, version, version >= flexible);
        made.set(version, coder);
      }
      return coder;
    };
  };
  return {
    key,
    name,
    minVersion: versions[0],
    maxVersion: versions[1],
    flexibleFrom: flexible,
    overlaps,
    isPublic,
    fields: definition.request,
    request: coders(definition.request),
    response: coders(definition.response),
    handle: (request, context) => definition.handle(request as Decoded<Q>, context),
  };
}
