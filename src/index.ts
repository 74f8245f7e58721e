/** The public face of the product: channels from TypeScript. The xenstore library and the simulation have their own. */
export { BackendDaemon, type DaemonOptions } from './backend/daemon.js';
export { type Clock, systemClock, type Timer } from './base/clock.js';
export { ChannelError, ERRORS, type ErrorCode, EXIT } from './base/errors.js';
export { createLogger, type Logger, type LogLevel, silentLogger } from './base/log.js';
export { type ChannelAddress, channelWrites, type NodeWrite } from './console/layout.js';
export { type ChannelName, channelNameProblem, parseChannelName } from './console/name.js';
export { type ChannelSpec, DEFAULT_LIMIT_BYTES } from './console/spec.js';
export { type AttachRequest, type AttachResult, attach } from './dom0/attach.js';
export { type DetachRequest, type DetachResult, detach } from './dom0/detach.js';
export { type Domain, listDomains, resolveDomain } from './dom0/domains.js';
export type { Dom0Environment } from './dom0/environment.js';
export { type ListedChannel, type Listing, list } from './dom0/list.js';
export { findHostEnd, openHostEnd } from './dom0/open-channel.js';
export { type Plan, planChannel } from './dom0/plan.js';
export { type ChannelStatus, type Status, status } from './dom0/status.js';
export { GuestAgent, type GuestAgentOptions } from './guest/index.js';
export type { Hypervisor } from './hypervisor/ports.js';
export { openXenHypervisor } from './hypervisor/xen.js';
