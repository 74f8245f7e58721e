/** What `wait` can wait for; apart from it, so that the command line knows the words without loading the rest. */
export const WAIT_GOALS = ['connected', 'guest-open', 'consumed'] as const;
export type WaitGoal = (typeof WAIT_GOALS)[number];
