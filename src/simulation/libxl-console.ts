/**
 * The nodes that libxl 4.17 writes for the consoles of a domain's configuration: the primary one and channels, which a
 * QEMU would serve. Our own channels are not made here. Source: xen:tools/libs/light/libxl_console.c
 * (libxl__device_console_add), libxl_device.c (libxl__device_generic_add); checked against a genuine dump.
 */
import { backendPath, domainPath, frontendPath, libxlPath, QEMU_TYPE } from '../console/layout.js';
import type { Node } from './nodes.js';

/** One entry of `channel = [...]` in a domain's configuration file. */
export interface LibxlChannel {
  readonly name: string;
  readonly connection: 'socket' | 'pty';
  /** Only of sockets. */
  readonly path?: string;
}

/** LIBXL_XENCONSOLE_LIMIT. */
const LIMIT = '1048576';

export function libxlChannelNodes(domid: number, deviceId: number, channel: LibxlChannel): Node[] {
  const frontend = frontendPath(domid, deviceId);
  const libxl = libxlPath(domid, deviceId);
  const backend = backendPath({ domid, deviceId, backendDomid: 0 });
  const readOnly = ['n0', `r${domid}`] as const;
  const shared: [string, string][] = [
    ['frontend-id', String(domid)],
    ['online', '1'],
    ['state', '1'],
    ['protocol', 'vt100'],
    ['name', channel.name],
    ['connection', channel.connection],
    ...(channel.path === undefined ? [] : [['path', channel.path] as [string, string]]),
  ];
  return [
    [`${libxl}/frontend`, frontend],
    [`${libxl}/backend`, backend],
    [frontend, '', [`n${domid}`, 'r0']],
    [`${frontend}/backend`, backend],
    [`${frontend}/backend-id`, '0', [`n${domid}`, 'r0']],
    [`${frontend}/state`, '1', [`n${domid}`, 'r0']],
    [`${frontend}/protocol`, 'vt100', [`n${domid}`, 'r0']],
    [`${frontend}/name`, channel.name, readOnly],
    [`${frontend}/limit`, LIMIT, readOnly],
    [`${frontend}/type`, QEMU_TYPE, readOnly],
    [`${frontend}/output`, channel.connection === 'pty' ? 'pty' : `chardev:libxl-channel${deviceId}`, readOnly],
    [`${frontend}/tty`, '', readOnly],
    [backend, '', readOnly],
    [`${backend}/frontend`, frontend],
    ...shared.map(([key, value]): Node => [`${backend}/${key}`, value]),
    ...shared.map(([key, value]): Node => [`${libxl}/${key}`, value]),
  ];
}

/** Console 0: no state of its own, ring and port are there before the domain runs. */
export function libxlPrimaryConsoleNodes(domid: number, port: number, frame: number): Node[] {
  const frontend = `${domainPath(domid)}/console`;
  const libxl = libxlPath(domid, 0);
  const backend = backendPath({ domid, deviceId: 0, backendDomid: 0 });
  const readOnly = ['n0', `r${domid}`] as const;
  const shared: [string, string][] = [
    ['frontend-id', String(domid)],
    ['online', '1'],
    ['state', '1'],
    ['protocol', 'vt100'],
  ];
  return [
    [`${libxl}/frontend`, frontend],
    [`${libxl}/backend`, backend],
    [frontend, '', readOnly],
    [`${frontend}/backend`, backend],
    [`${frontend}/backend-id`, '0', [`n${domid}`, 'r0']],
    [`${frontend}/limit`, LIMIT, readOnly],
    [`${frontend}/type`, 'xenconsoled', readOnly],
    [`${frontend}/output`, 'pty', readOnly],
    [`${frontend}/tty`, '', readOnly],
    [`${frontend}/port`, String(port), readOnly],
    [`${frontend}/ring-ref`, String(frame), readOnly],
    [backend, '', readOnly],
    [`${backend}/frontend`, frontend],
    ...shared.map(([key, value]): Node => [`${backend}/${key}`, value]),
    ...shared.map(([key, value]): Node => [`${libxl}/${key}`, value]),
  ];
}
