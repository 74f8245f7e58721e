import { describe, expect, it } from 'vitest';
import {
  BACKEND_STATE,
  type FrontendSight,
  initialPhase,
  ON_FRONTEND,
  onDetach,
  type Phase,
} from '../../src/backend/handshake.js';
import { XENBUS, type XenbusState } from '../../src/console/xenbus-state.js';

const PHASES: readonly Phase[] = ['waiting', 'connected', 'closing', 'closed'];
const SIGHTS: readonly FrontendSight[] = [...(Object.keys(XENBUS) as XenbusState[]), 'gone', 'invalid'];

/** Written in the short form of the protocol's own discussion: action and next phase, for each phase. */
const EXPECTED: Readonly<Record<FrontendSight, readonly [string, string, string, string]>> = {
  unknown: ['- closed', 'release closed', 'release closed', '-'],
  initialising: ['-', 'release waiting', 'release closed', '- waiting'],
  'init-wait': ['-', '-', '-', '-'],
  initialised: ['map connected', '-', '-', 'map connected'],
  connected: ['map connected', '-', '-', '-'],
  closing: ['- closed', '- closing', '-', '-'],
  closed: ['- closed', 'release closed', 'release closed', '-'],
  reconfiguring: ['-', '-', '-', '-'],
  reconfigured: ['-', '-', '-', '-'],
  gone: ['- closed', 'release closed', 'release closed', '-'],
  invalid: ['-', '-', '-', '-'],
};

const EXPECTED_ON_DETACH: Readonly<Record<FrontendSight, readonly [string, string, string, string]>> = {
  unknown: ['- closed', 'release closed', 'release closed', '-'],
  initialising: ['- closed', 'release closed', 'release closed', '-'],
  'init-wait': ['- closed', '- closing', '-', '-'],
  initialised: ['map closing', '- closing', '-', '-'],
  connected: ['map closing', '- closing', '-', '-'],
  closing: ['- closed', '- closing', '-', '-'],
  closed: ['- closed', 'release closed', 'release closed', '-'],
  reconfiguring: ['- closed', '- closing', '-', '-'],
  reconfigured: ['- closed', '- closing', '-', '-'],
  gone: ['- closed', 'release closed', 'release closed', '-'],
  invalid: ['- closed', '- closing', '-', '-'],
};

const short = ({ do: action, next }: { do: string; next: string }): string =>
  `${action === 'nothing' ? '-' : action.replace('-ring', '')}${next === 'unchanged' ? '' : ` ${next}`}`;

const CASES = SIGHTS.flatMap((sight) => PHASES.map((phase, column) => ({ sight, phase, column })));

describe('the handshake', () => {
  it.each(CASES)('with the frontend $sight and the backend $phase goes on as written', ({ sight, phase, column }) => {
    expect(short(ON_FRONTEND[sight][phase])).toBe(EXPECTED[sight][column]);
    expect(short(onDetach(sight, phase))).toBe(EXPECTED_ON_DETACH[sight][column]);
  });

  it.each(CASES)(
    'maps only what is not mapped, and a phase without a ring never releases one ($sight, $phase)',
    (at) => {
      const mapped = at.phase === 'connected' || at.phase === 'closing';
      for (const step of [ON_FRONTEND[at.sight][at.phase], onDetach(at.sight, at.phase)]) {
        if (step.do === 'map-ring') expect(mapped).toBe(false);
        if (step.do === 'release-ring') expect(mapped).toBe(true);
        const next = step.next === 'unchanged' ? at.phase : step.next;
        const mappedAfter = step.do === 'map-ring' || (mapped && step.do !== 'release-ring');
        expect(next === 'connected' || next === 'closing').toBe(mappedAfter);
      }
    },
  );

  it('never opens a channel that is being taken away', () => {
    for (const { sight, phase } of CASES) expect(onDetach(sight, phase).next).not.toMatch(/waiting|^connected/);
  });

  it('writes 2, 4, 5 and 6', () => {
    expect(PHASES.map((phase) => XENBUS[BACKEND_STATE[phase]])).toEqual([2, 4, 5, 6]);
  });

  it.each<[XenbusState | undefined, Phase]>([
    ['init-wait', 'waiting'],
    ['connected', 'waiting'],
    ['closing', 'waiting'],
    ['closed', 'closed'],
    [undefined, 'waiting'],
  ])('of a new daemon takes up a backend that says %s as %s', (state, phase) => {
    expect(initialPhase(state)).toBe(phase);
  });
});
