import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { arrayOf, int16, string } from '../protocol/schema.js';

const request = { mechanism: string() };

const response = { errorCode: int16(), mechanisms: arrayOf(string()) };

export const saslHandshake: Api = api({
  key: 17,
  name: 'SaslHandshake',
  versions: [0, 1],
  isPublic: true,
  request,
  response,
  handle({ mechanism }, { peer: { login }, version }) {
    if (login === null || login.isDone) {
      return { errorCode: errorNumber('ILLEGAL_SASL_STATE'), mechanisms: [] };
    }
    const isOffered = login.begin(mechanism, version === 0);
    const errorCode = isOffered ? noError : errorNumber('UNSUPPORTED_SASL_MECHANISM');
    return { errorCode, mechanisms: login.users.mechanisms };
  },
});
