// When a lost connection is opened again.

/** How often and how soon a lost connection is opened again. */
export interface Reconnect {
  /** The number of attempts in a row. 0 never reconnects. */
  attempts: number;
  /** The longest wait before the second attempt, in milliseconds. It doubles with each attempt. */
  delay: number;
  /** The limit of this wait. */
  maxDelay: number;
}

/** Half a minute in all. */
export const RECONNECT: Reconnect = { attempts: 10, delay: 200, maxDelay: 5000 };

/** Returns the longest wait before this attempt, which begins with 0. `undefined` if there are no more attempts. */
export function delayOf(attempt: number, policy: Reconnect): number | undefined {
  if (attempt >= policy.attempts) return undefined;
  return attempt === 0 ? 0 : Math.min(policy.maxDelay, policy.delay * 2 ** (attempt - 1));
}
