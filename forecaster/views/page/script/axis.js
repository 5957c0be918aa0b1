// Where the marks of an axis are.

const STEPS = [1, 2, 3, 6, 12, 24, 36, 60, 120, 240, 600, 1200, 6000, 12000];

/**
 * Round numbers from 0 up to the largest value.
 *
 * @param {number} most
 */
export function ticks(most) {
  if (!(most > 0)) return [0];
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 2.5, 5].find((one) => one * power >= rough * 0.999) ?? 10;
  const step = factor * power;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => i * step);
}

/**
 * Round numbers around 0, so that the lowest and the highest value lie between the first and the last.
 *
 * @param {number[]} values
 */
export function ticksAround(values) {
  const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
  const step = ticks(2 * (most - least))[1] || 0.1;
  const low = Math.floor(least / step + 1e-9);
  const high = Math.max(Math.ceil(most / step - 1e-9), low + 1);
  return Array.from({ length: high - low + 1 }, (_, i) => (low + i) * step);
}

/**
 * @param {number} first
 * @param {number} last
 * @param {number} room for so many marks
 */
export function placeTicks(first, last, room) {
  const step = STEPS.find((n) => (last - first) / n <= room) || 24000;
  const count = Math.floor(last / step) - Math.ceil(first / step) + 1;
  return Array.from({ length: count }, (_, i) => (Math.ceil(first / step) + i) * step);
}

/**
 * Places that are months: there is no month 0, and month 1 has a mark.
 *
 * @param {number} first
 * @param {number} last
 * @param {number} room
 */
export function monthTicks(first, last, room) {
  const marks = placeTicks(first, last, room);
  if (last >= 1 && !marks.includes(1) && !marks.includes(2)) marks.push(1);
  return marks.filter((month) => month !== 0);
}
