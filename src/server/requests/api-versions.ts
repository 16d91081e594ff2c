import { api, type Api } from '../protocol/api.js';
import { errorNumber, noError } from '../protocol/errors.js';
import { array, bool, int16, int32, int64, string } from '../protocol/schema.js';

const request = {
  clientSoftwareName: string({ since: 3 }),
  clientSoftwareVersion: string({ since: 3 }),
};

const response = {
  errorCode: int16(),
  apiKeys: array({ apiKey: int16(), minVersion: int16(), maxVersion: int16() }),
  throttleTimeMs: int32({ since: 1, default: 0 }),
  supportedFeatures: array(
    { name: string(), minVersion: int16(), maxVersion: int16() },
    { since: 3, tag: 0, default: [] },
  ),
  finalizedFeaturesEpoch: int64({ since: 3, tag: 1, default: -1 }),
  finalizedFeatures: array(
    { name: string(), maxVersionLevel: int16(), minVersionLevel: int16() },
    { since: 3, tag: 2, default: [] },
  ),
  zkMigrationReady: bool({ since: 3, tag: 3, default: false }),
};

/** Kafka's rule for names and versions of clients (KIP-511). */
const softwareName = /^[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?$/;

export const apiVersions: Api = api({
  key: 18,
  name: 'ApiVersions',
  versions: [0, 4],
  flexible: 3,
  isPublic: true,
  request,
  response,
  handle({ clientSoftwareName, clientSoftwareVersion }, { node, version }) {
    const isNamed =
      softwareName.test(clientSoftwareName) && softwareName.test(clientSoftwareVersion);
    if (version >= 3 && !isNamed) return { errorCode: errorNumber('INVALID_REQUEST'), apiKeys: [] };
    return { errorCode: noError, apiKeys: offered(node.apis.values()) };
  },
});

/**
 * Produce is told from version 0 on, as by Kafka, though its oldest versions are refused: older ones of
 * librdkafka compress only for a server that says so (KAFKA-18659).
 */
const produceKey = 0;

/** What every client must be able to read: the answer of version 0 to a version that is too new. */
export function unsupportedVersion(apis: Iterable<Api>): unknown {
  return { errorCode: errorNumber('UNSUPPORTED_VERSION'), apiKeys: offered(apis) };
}

function offered(
  apis: Iterable<Api>,
): { apiKey: number; minVersion: number; maxVersion: number }[] {
  return [...apis].map(({ key, minVersion, maxVersion }) => ({
    apiKey: key,
    minVersion: key === produceKey ? 0 : minVersion,
    maxVersion,
  }));
}
