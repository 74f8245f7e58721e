/** The public face of the guest room: the agent, and what a guest knows of its channels. */

export { GuestAgent, type GuestAgentOptions, type GuestAgentSetup } from './agent.js';
export type { Certainty, Reason } from './deduce.js';
export { type ChannelProblem, describeChannels, type ResolvedChannel } from './describe.js';
export type { HeldLine, LineState, LineView, TtyLines } from './lines.js';
