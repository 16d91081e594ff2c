import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { AuthenticationFailed } from '../protocol/sasl.js';
import { bytes, int16, int64, string } from '../protocol/schema.js';

const request = { authBytes: bytes() };

const response = {
  errorCode: int16(),
  errorMessage: string({ nullable: 0, default: null }),
  authBytes: bytes({ default: Buffer.alloc(0) }),
  sessionLifetimeMs: int64({ since: 1, default: 0 }),
};

/** Kafka's connection.failed.authentication.delay.ms: so much slower are passwords tried. */
const failureDelayMs = 100;

export const saslAuthenticate: Api = api({
  key: 36,
  name: 'SaslAuthenticate',
  versions: [0, 2],
  flexible: 2,
  isPublic: true,
  request,
  response,
  async handle({ authBytes }, { peer, node }) {
    const { login } = peer;
    if (login?.isUnderWay !== true) {
      const errorMessage = 'SaslHandshake comes first, and names a mechanism that is offered.';
      return { errorCode: errorNumber('ILLEGAL_SASL_STATE'), errorMessage };
    }
    try {
      return { errorCode: noError, authBytes: login.take(authBytes) };
    } catch (error) {
      if (!(error instanceof AuthenticationFailed)) throw error;
      await new Promise<void>((resolve) => node.broker.clock.after(failureDelayMs, resolve));
      peer.end();
      const errorCode = errorNumber('SASL_AUTHENTICATION_FAILED');
      return { errorCode, errorMessage: `Authentication failed: ${error.message}.` };
    }
  },
});
