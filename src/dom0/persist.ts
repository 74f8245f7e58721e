/**
 * Attach and detach together with the record that makes a channel come back: which is written first, and what becomes of
 * it when the other half fails.
 */
import type { Store } from '../../xenstore/index.js';
import { ChannelError } from '../base/errors.js';
import type { ChannelAddress } from '../console/layout.js';
import { printable } from '../console/name.js';
import type { ChannelSpec } from '../console/spec.js';
import { type AttachRequest, type AttachResult, attach } from './attach.js';
import type { DomainKey } from './desired.js';
import { type DesiredStore, desiredStoreOf, keyOf } from './desired-store.js';
import { type DetachRequest, type DetachResult, detach } from './detach.js';
import { type Domain, describeDomain, isUuid, resolveDomain } from './domains.js';
import type { Dom0Environment } from './environment.js';

function needDesired(env: Dom0Environment): DesiredStore {
  const desired = desiredStoreOf(env);
  if (desired === undefined) throw new ChannelError('internal-bug', 'no state directory is known');
  return desired;
}

/**
 * Attaches, and records the channel when that is done: what could not be attached once is not tried for ever. Throws
 * also when only the record could not be written; the sentence says that the channel stays.
 */
export async function attachPersistently(
  store: Store,
  request: AttachRequest,
  env: Dom0Environment,
): Promise<AttachResult> {
  const desired = needDesired(env);
  // A record that cannot be read or changed is told before anything is attached.
  await desired.recordsFor(await resolveDomain(store, request.domain));
  const onAttached = (domain: Domain, address: ChannelAddress) => record(desired, request.spec, domain, address);
  return attach(store, { ...request, onAttached }, env);
}

async function record(desired: DesiredStore, spec: ChannelSpec, domain: Domain, at: ChannelAddress): Promise<void> {
  const { domid, deviceId } = at;
  const key = keyOf(domain);
  try {
    if (key === undefined) throw new ChannelError('state-corrupt', 'the domain has neither a uuid nor a name');
    await desired.put(key, { spec, last: { domid, deviceId } }, domain.name);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ChannelError(
      error instanceof ChannelError ? error.code : 'system-call-failed',
      `channel ${printable(spec.name)} is attached to domain ${describeDomain(domain)}, but not recorded, and will not come back: ${why}`,
      { domid, deviceId },
      { cause: error },
    );
  }
}

/** Where the record of one domain is found without xenstore: by uuid, by name, or by the name it had. */
async function findKey(desired: DesiredStore, text: string, channelName: string): Promise<DomainKey> {
  const { records } = await desired.all();
  const found = records.filter(
    ({ key, label, channels }) =>
      ('uuid' in key ? key.uuid === text.toLowerCase() || label === text : key.name === text) &&
      channels.some(({ spec }) => spec.name === channelName),
  );
  const exact = found.find(({ key }) => 'uuid' in key && isUuid(text) && key.uuid === text.toLowerCase());
  const [first, ...others] = exact === undefined ? found : [exact];
  if (first === undefined) {
    throw new ChannelError(
      'channel-not-found',
      `no channel ${printable(channelName)} is recorded for a domain with the uuid or name ${printable(text)}`,
      { domain: text.slice(0, 80), name: channelName.slice(0, 255) },
    );
  }
  if (others.length > 0) {
    const keys = found.map(({ key }) => ('uuid' in key ? key.uuid : 'by name'));
    throw new ChannelError(
      'domain-ambiguous',
      `${found.length} domains called ${printable(text)} have this channel recorded: ${keys.slice(0, 4).join(', ')}; use the uuid`,
      { keys },
    );
  }
  return first.key;
}

/** Only the record: the domain need not run, and a channel that is attached stays until its domain goes. */
export async function forgetChannel(env: Dom0Environment, domain: string, channelName: string): Promise<DomainKey> {
  const desired = needDesired(env);
  const key = await findKey(desired, domain, channelName);
  await desired.forget(key, channelName);
  return key;
}

export type DetachAndForgetResult = DetachResult & { readonly forgotten: boolean };

/**
 * Detaches, and takes the channel out of the record as soon as its end has begun: a detach that runs out of time is
 * repeated, not undone, and nobody attaches the channel again in between.
 */
export async function detachAndForget(
  store: Store,
  request: DetachRequest,
  env: Dom0Environment,
): Promise<DetachAndForgetResult> {
  const desired = desiredStoreOf(env);
  let forgotten = false;
  const forget = async (domain: Domain): Promise<void> => {
    for (const key of keysOf(domain)) {
      if ((await desired?.forget(key, request.name)) === true) forgotten = true;
    }
  };
  try {
    return { ...(await detach(store, { ...request, onClosing: forget }, env)), forgotten };
  } catch (error) {
    if (!(error instanceof ChannelError) || error.code !== 'channel-not-found') throw error;
    // Recorded, and not attached at present: then the record is all there is to end.
    const domain = await resolveDomain(store, request.domain);
    await forget(domain);
    if (!forgotten) throw error;
    const { domid } = domain;
    const warnings = ['it was not attached; it is not wanted any more'];
    return { domain, domid, deviceId: 0, backendDomid: env.backendDomid, name: request.name, warnings, forgotten };
  }
}

const keysOf = ({ uuid, name }: Domain): DomainKey[] => [
  ...(uuid === undefined ? [] : [{ uuid }]),
  ...(name === undefined ? [] : [{ name }]),
];
