/** The public face of the simulation: a whole host, or its parts. */

export { SimulatedHypervisor } from '../hypervisor/simulated.js';
export { SimulatedHost, type SimulatedHostOptions } from './host.js';
export type { LibxlChannel } from './libxl-console.js';
export { LinuxGuest, type LinuxGuestOptions } from './linux-guest.js';
export { MemoryTty, memoryTtys } from './memory-tty.js';
export { ptyTtys } from './pty-tty.js';
export type { DomainSpec, SimulatedDomain } from './simulated-domain.js';
export type { TtyEvents, TtyMaker, TtyPort } from './tty-port.js';
export type { Uevent } from './xenbus-sysfs.js';
