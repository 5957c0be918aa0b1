// Numbers and dates as text.

export const DASH = "–";
const DAY = 864e5;

/**
 * @param {Intl.NumberFormatOptions} options
 */
export const numberFormat = (options) => new Intl.NumberFormat("en-US", options);

const WHOLE = numberFormat({ maximumFractionDigits: 0 });
const COMPACT = numberFormat({ notation: "compact", maximumSignificantDigits: 3 });
const EXACT = numberFormat({ maximumSignificantDigits: 6 });
export const PERCENT = numberFormat({
  style: "percent",
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});
export const SIGNED = numberFormat({
  style: "percent",
  maximumFractionDigits: 1,
  minimumFractionDigits: 1,
  signDisplay: "exceptZero",
});

/** @typedef {(value: number | null | undefined) => string} Format */

/**
 * The format, with a dash for a missing value and a true minus sign.
 *
 * @template T
 * @param {(value: T) => string} format
 * @returns {(value: T | null | undefined) => string}
 */
export const known = (format) => (value) => (value == null ? DASH : format(value).replace(/^-/, "−"));

// Above 2^53 numbers are formatted by their first digits only; integers by all of them.
/** @type {Format} */
export const whole = known((value) =>
  WHOLE.format(Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value) : value),
);

/**
 * A total. Where a float has not all of its digits, they are given as text.
 *
 * @param {number | null} value
 * @param {string | null} digits
 */
export const total = (value, digits) => (digits == null ? whole(value) : WHOLE.format(BigInt(digits)));

/** @type {Format} */
export const compact = known((value) =>
  Math.abs(value) < 1e15 ? COMPACT.format(value) : value.toExponential(2).replace(/\.?0*e\+/, "e"),
);

/** @type {Format} */
export const exact = known((value) =>
  value !== 0 && Math.abs(value) < 1e-6 ? value.toExponential(3) : EXACT.format(value),
);

/** @type {Format} */
export const signed = known((value) => (value >= 1e5 ? `× ${compact(value + 1)}` : SIGNED.format(value)));

/** @type {(value: string | number | null | undefined) => string} */
export const text = known((value) => `${value}`);

/**
 * @param {number} number
 * @param {string} one
 */
export const counted = (number, one) => `${whole(number)} ${one}${number === 1 ? "" : "s"}`;

/**
 * @param {number} part
 * @param {number} all
 */
export function share(part, all) {
  if (!(all > 0)) return DASH;
  return part > 0 && part / all < 0.0005 ? "<0.1%" : PERCENT.format(part / all);
}

/**
 * The date this many days later; a dash for a missing date or one that no date can hold.
 *
 * @param {string | null} date
 * @param {number} days
 */
export function later(date, days) {
  const day = new Date(Date.parse(date ?? "") + Math.round(days) * DAY);
  return Number.isNaN(day.getTime()) ? DASH : day.toISOString().slice(0, 10);
}

/**
 * @param {string} words
 */
export const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);
