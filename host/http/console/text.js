// Numbers and times as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** @param {number | null | undefined} count */
export function bytes(count) {
  let unit = 0;
  let value = count ?? 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** @param {number} ms */
export function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return `${minutes} min ${seconds % 60} s`;
}

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const DATE_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** @param {string} text a timestamp of the API */
export const day = (text) => DAY.format(new Date(text));
/** @param {Date} date */
export const time = (date) => TIME.format(date);

/** @param {string} text a timestamp of the API */
export function dateTime(text) {
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? text : DATE_TIME.format(date);
}

/** @param {number} count */
export function number(count) {
  return new Intl.NumberFormat().format(count);
}

/**
 * A number with its noun: "1 line", "2 lines".
 * @param {number} count
 * @param {string} singular
 * @param {string} [plural]
 */
export function plural(count, singular, plural = `${singular}s`) {
  return `${number(count)} ${count === 1 ? singular : plural}`;
}

/**
 * A parameter on one line: plain words unchanged, everything else in quotes, secrets as dots.
 * @param {string | null} value null if it is secret
 */
export function param(value) {
  if (value === null) return "•••";
  return /^[\p{L}\p{N}_./:@%+=,-]+$/u.test(value) ? value : JSON.stringify(value);
}
