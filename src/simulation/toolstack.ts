/**
 * What xl and libxl 4.17 write into xenstore when a domain is created and destroyed: the same nodes, values,
 * permissions and order as seen on a genuine Xen 4.17. Knows neither our own channels nor any kernel. Sources:
 * xen:tools/libs/light/libxl_create.c (libxl__domain_make), libxl_domain.c (devices_destroy_cb), libxl_device.c
 * (libxl__devices_destroy), libxl_xshelp.c (libxl__xs_path_cleanup).
 */
import { isXenstoreError } from '../../xenstore/errors.js';
import type { Store, StoreOperations } from '../../xenstore/index.js';
import { backendPath, domainPath, frontendPath, libxlPath } from '../console/layout.js';
import { type LibxlChannel, libxlChannelNodes, libxlPrimaryConsoleNodes } from './libxl-console.js';
import { type Node, writeNodes } from './nodes.js';

export interface DomainBuild {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  /** Channels of the domain's configuration file. Nobody serves them: there is no QEMU here. */
  readonly channels?: readonly LibxlChannel[];
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** While its memory is filled, which takes the longer the more it has. */
  readonly whileBuilt?: ((domid: number) => Promise<void>) | undefined;
}

const MEMORY_KIB = '262144';
/** Frames and ports as the domain builder hands them out; xenstored's simulation does not map them. */
const STORE_FRAME = 758273;
const STORE_PORT = 1;
const CONSOLE_FRAME = 758274;
const CONSOLE_PORT = 2;

/** The nodes of dom0 itself, as xen-init-dom0 and dom0's QEMU leave them. */
export async function prepareHost(store: Store): Promise<void> {
  const all = ['n0'] as const;
  const dom0 = domainPath(0);
  await store.transaction((tx) =>
    writeNodes(tx, [
      [dom0, '', all],
      [`${dom0}/control/feature-poweroff`, '1', all],
      [`${dom0}/control/feature-reboot`, '1', all],
      [`${dom0}/control/feature-suspend`, '1', all],
      [`${dom0}/domid`, '0', all],
      [`${dom0}/name`, 'Domain-0', all],
      ['/local/pool/0/name', 'Pool-0', all],
    ]),
  );
}

/** Writes the tree of a new domain, introduces it to xenstored, and adds its consoles. */
export async function buildDomain(store: Store, build: DomainBuild): Promise<void> {
  const { domid, channels = [] } = build;
  await store.transaction((tx) => writeNodes(tx, domainNodes(build)));
  await build.whileBuilt?.(domid);
  await store.introduce(domid, BigInt(STORE_FRAME), STORE_PORT);
  await store.transaction((tx) => writeNodes(tx, builtNodes(build)));
  for (const [index, channel] of channels.entries()) {
    await addChannel(store, domid, index + 1, channel);
  }
  const primary = libxlPrimaryConsoleNodes(domid, CONSOLE_PORT, CONSOLE_FRAME);
  await store.transaction((tx) => writeNodes(tx, primary));
}

/** libxl__device_generic_add: whatever stands there goes first. */
function addChannel(store: Store, domid: number, deviceId: number, channel: LibxlChannel): Promise<void> {
  const address = { domid, deviceId, backendDomid: 0 };
  return store.transaction(async (tx) => {
    for (const path of [libxlPath(domid, deviceId), frontendPath(domid, deviceId), backendPath(address)]) {
      if (await tx.exists(path)) await tx.rm(path);
    }
    await writeNodes(tx, libxlChannelNodes(domid, deviceId, channel));
  });
}

/** Removes everything libxl knows of: what has no entry below /libxl/D/device stays for ever, as it does with xl. */
export async function removeDomain(store: Store, domid: number): Promise<void> {
  const devices = `/libxl/${domid}/device`;
  await removeDevice(store, domid, `${domainPath(domid)}/console`, 'console', '0');
  for (const kind of await store.tryDirectory(devices)) {
    for (const deviceId of await store.tryDirectory(`${devices}/${kind}`)) {
      await removeDevice(store, domid, `${domainPath(domid)}/device/${kind}/${deviceId}`, kind, deviceId);
    }
  }
  const vm = await store.tryReadText(`${domainPath(domid)}/vm`);
  if (vm !== undefined) await store.rm(vm);
  await store.rm(domainPath(domid));
  await store.rm(`/libxl/${domid}`);
}

async function removeDevice(store: Store, domid: number, frontend: string, kind: string, deviceId: string) {
  const libxl = `/libxl/${domid}/device/${kind}/${deviceId}`;
  const backend = await store.tryReadText(`${libxl}/backend`);
  if (backend === undefined) return;
  const parts = /^\/local\/domain\/\d+\/backend\/[^/]+\/(\d+)\/([^/]+)$/.exec(backend);
  if (parts?.[1] !== String(domid) || parts[2] !== deviceId) return;
  await store.transaction(async (tx) => {
    for (const path of [frontend, libxl, backend]) await removeWithEmptyParents(tx, path);
  });
}

/** libxl__xs_path_cleanup: the node, and then every parent that has become empty. */
async function removeWithEmptyParents(tx: StoreOperations, path: string): Promise<void> {
  try {
    await tx.rm(path);
  } catch (error) {
    if (isXenstoreError(error, 'ENOENT')) return;
    throw error;
  }
  for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
    const parent = path.slice(0, end);
    if (!(await tx.exists(parent)) || (await tx.directory(parent)).length > 0) return;
    await tx.rm(parent);
  }
}

function domainNodes({ domid, name, uuid }: DomainBuild): Node[] {
  const dom = domainPath(domid);
  const vm = `/vm/${uuid}`;
  const readOnly = ['n0', `r${domid}`] as const;
  const guest = [`n${domid}`] as const;
  const own = (key: string): Node => [`${dom}/${key}`, '', guest];
  return [
    [dom, '', readOnly],
    [vm, '', readOnly],
    [`/libxl/${domid}`, '', ['n0']],
    [`/libxl/${domid}/device`, '', ['n0']],
    [`${dom}/vm`, vm],
    [`${dom}/name`, name],
    [`${vm}/name`, name],
    ...['cpu', 'memory', 'device'].map((key): Node => [`${dom}/${key}`, '', readOnly]),
    own('device/suspend/event-channel'),
    [`${dom}/control`, '', readOnly],
    ...['shutdown', 'feature-poweroff', 'feature-reboot', 'feature-suspend', 'sysrq'].map((key) =>
      own(`control/${key}`),
    ),
    ...['data', 'drivers', 'feature', 'attr', 'error'].map(own),
    [`${vm}/uuid`, uuid],
    [`${dom}/control/platform-feature-multiprocessor-suspend`, '1'],
    [`${dom}/control/platform-feature-xs_reset_watches`, '1'],
    [`/libxl/${domid}/type`, 'pv'],
    [`/libxl/${domid}/dm-version`, 'qemu_xen'],
  ];
}

/** What the build leaves behind (xen:tools/libs/light/libxl_dom.c, libxl__build_post). */
function builtNodes({ domid, uuid, startedAt }: DomainBuild): Node[] {
  const dom = domainPath(domid);
  const vm = `/vm/${uuid}`;
  return [
    [`${dom}/memory/static-max`, MEMORY_KIB],
    [`${dom}/memory/target`, MEMORY_KIB],
    [`${dom}/memory/videoram`, '0'],
    [`${dom}/domid`, String(domid)],
    [`${dom}/store/port`, String(STORE_PORT)],
    [`${dom}/store/ring-ref`, String(STORE_FRAME)],
    [`${dom}/cpu/0/availability`, 'online'],
    [`${vm}/image/ostype`, 'linux'],
    [`${vm}/image/kernel`, '/guest/vmlinux'],
    [`${vm}/start_time`, (startedAt / 1000).toFixed(2)],
    [`${vm}/image/ramdisk`, '/guest/initrd'],
    [`${vm}/image/cmdline`, 'console=hvc0'],
  ];
}
