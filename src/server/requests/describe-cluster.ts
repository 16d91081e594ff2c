import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { array, bool, int16, int32, int8, string } from '../protocol/schema.js';

const request = {
  includeClusterAuthorizedOperations: bool(),
  endpointType: int8({ since: 1, default: 1 }),
  includeFencedBrokers: bool({ since: 2 }),
};

const response = {
  throttleTimeMs: int32({ default: 0 }),
  errorCode: int16(),
  errorMessage: string({ nullable: 0, default: null }),
  endpointType: int8({ since: 1, default: 1 }),
  clusterId: string(),
  controllerId: int32({ default: -1 }),
  brokers: array({
    brokerId: int32(),
    host: string(),
    port: int32(),
    rack: string({ nullable: 0, default: null }),
    isFenced: bool({ since: 2, default: false }),
  }),
  clusterAuthorizedOperations: int32({ default: -(2 ** 31) }),
};

/** Controllers have no endpoint of their own here. */
const brokers = 1;

export const describeCluster: Api = api({
  key: 60,
  name: 'DescribeCluster',
  versions: [0, 2],
  flexible: 0,
  request,
  response,
  handle({ endpointType }, { node }) {
    const { nodeId, clusterId, endpoint } = node;
    if (endpointType !== brokers) {
      const errorCode = errorNumber('UNSUPPORTED_ENDPOINT_TYPE');
      return { errorCode, endpointType, clusterId: '', brokers: [] };
    }
    return {
      errorCode: noError,
      clusterId,
      controllerId: nodeId,
      brokers: [{ brokerId: nodeId, ...endpoint }],
    };
  },
});
