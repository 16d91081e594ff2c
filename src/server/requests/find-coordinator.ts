import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { array, arrayOf, int16, int32, int8, string } from '../protocol/schema.js';

const request = {
  key: string({ until: 3 }),
  keyType: int8({ since: 1 }),
  coordinatorKeys: arrayOf(string(), { since: 4 }),
};

const place = {
  nodeId: int32(),
  host: string(),
  port: int32(),
  errorCode: int16(),
  errorMessage: string({ nullable: 4, default: null }),
};

const response = {
  throttleTimeMs: int32({ since: 1, default: 0 }),
  errorCode: int16({ until: 3, default: 0 }),
  errorMessage: string({ since: 1, until: 3, nullable: 1, default: null }),
  nodeId: int32({ until: 3, default: -1 }),
  host: string({ until: 3, default: '' }),
  port: int32({ until: 3, default: -1 }),
  coordinators: array({ key: string(), ...place }, { since: 4, default: [] }),
};

/** Of groups and of transactional ids. */
const keyTypes: ReadonlySet<number> = new Set([0, 1]);

export const findCoordinator: Api = api({
  key: 10,
  name: 'FindCoordinator',
  versions: [0, 6],
  flexible: 3,
  overlaps: true,
  request,
  response,
  handle({ keyType, coordinatorKeys }, { node }) {
    const { nodeId, endpoint } = node;
    const found = keyTypes.has(keyType)
      ? { nodeId, ...endpoint, errorCode: noError }
      : { nodeId: -1, host: '', port: -1, errorCode: errorNumber('INVALID_REQUEST') };
    return { ...found, coordinators: coordinatorKeys.map((key) => ({ key, ...found })) };
  },
});
