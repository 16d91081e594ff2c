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
    isFenced: bool({ since: 2 }),
  }),
  clusterAuthorizedOperations: int32({ default: -2147483648 }),
};

export const describeCluster: Api = api({
  key: 60,
  name: 'DescribeCluster',
  versions: [0, 2],
  flexible: 0,
  request,
  response,
  handle,
});
