// The table of tracks: sorted, searched, page by page.

import { thumbnail } from "./chart.js";
import { byId, h } from "./dom.js";
import { counted, signed, text, whole } from "./numbers.js";
import { summary } from "./summary.js";
import { link, rows, seriesOf, stateClass, stateText, totalOf } from "./tracks.js";

/** @import { Child } from "./dom.js" */

const PAGE = 50;

/** @typedef {"track" | "total" | "last_30" | "change" | "state" | "artist" | "cutoff" | "months" | "age" | "segment" | "range"} Key */
/** @typedef {string | number | bigint | null} SortKey */

/**
 * `show` is the cell of a row, `sortBy` what it is sorted by; text is sorted upwards first, numbers downwards.
 *
 * @typedef {{ key: Key, label: string, show: (i: number) => Child, right?: boolean, upwards?: boolean,
 *   sortBy?: (i: number) => SortKey }} Column
 */

/** @type {{ key: Key, down: boolean }} */
let sorting = { key: "total", down: true };
/** @type {number[]} */
let order = [];
/** @type {number[]} */
let listed = [];
let page = 0;

/**
 * A column of numbers.
 *
 * @param {Key} key
 * @param {string} label
 * @param {(value: number | null) => string} [format]
 * @returns {Column}
 */
const numbers = (key, label, format = whole) => ({
  key,
  label,
  right: true,
  show: (i) => format(/** @type {number | null} */ (rows[key][i])),
});

/** @type {Column[]} */
const COLUMNS = [
  {
    key: "track",
    label: "Track",
    right: true,
    upwards: true,
    show: (i) => h("a", { href: link(i) }, rows.track[i]),
    sortBy: (i) => exactKey(rows.track[i]),
  },
  {
    ...numbers("total", "Forecast total"),
    show: totalOf,
    sortBy: (i) => exactKey(rows.digits[i] ?? rows.total[i]),
  },
  numbers("last_30", "Last 30"),
  numbers("change", "Change", signed),
  {
    key: "state",
    label: "State",
    upwards: true,
    show: (i) => h("span", { class: stateClass(i) }, stateText(i)),
    sortBy: stateText,
  },
  {
    key: "artist",
    label: "Artist",
    right: true,
    upwards: true,
    show: (i) => text(rows.artist[i]),
    sortBy: (i) => exactKey(rows.artist[i]),
  },
  { key: "cutoff", label: "Forecast from", upwards: true, show: (i) => text(rows.cutoff[i]) },
  numbers("months", "Months"),
  numbers("age", "Age"),
  numbers("segment", "Segment"),
  numbers("range", "Influence"),
];

/**
 * A number of any size to sort by.
 *
 * @param {string | number | null} digits
 */
function exactKey(digits) {
  if (digits == null) return null;
  const number = Number(digits);
  return Number.isSafeInteger(number) || !Number.isInteger(number) ? number : BigInt(digits);
}

/** @param {Key} key */
const columnOf = (key) => /** @type {Column} */ (COLUMNS.find((column) => column.key === key));

function sort() {
  const { key, down } = sorting;
  const sortBy = columnOf(key).sortBy ?? ((/** @type {number} */ i) => rows[key][i]);
  const keys = rows.track.map((_, i) => sortBy(i));
  const sign = down ? -1 : 1;
  order = keys
    .map((_, i) => i)
    .sort((a, b) => {
      const [left, right] = [keys[a], keys[b]];
      if (left == null || right == null) return Number(left == null) - Number(right == null) || a - b;
      if (left === right) return a - b;
      return left < right ? -sign : sign;
    });
}

/**
 * Does a row match the words that are searched for?
 *
 * @param {string} query
 * @returns {(i: number) => boolean}
 */
function matcher(query) {
  /** @type {((i: number) => boolean)[]} */
  const tests = [];
  const rest = query.toLowerCase().replace(/\b(track|artist)[\s:#]*(-?\d+)/g, (_, what, id) => {
    const ids = what === "track" ? rows.track : rows.artist;
    tests.push((i) => ids[i] === id);
    return " ";
  });
  for (const word of rest.split(/\s+/).filter(Boolean)) {
    tests.push(
      /^-?\d+$/.test(word)
        ? (i) => rows.track[i].startsWith(word) || (rows.artist[i] ?? "").startsWith(word)
        : (i) => stateText(i).includes(word) || (rows.reason[i] ?? "").includes(word),
    );
  }
  return (i) => tests.every((test) => test(i));
}

const search = () => byId("search", HTMLInputElement);
const state = () => byId("state", HTMLSelectElement);
const list = () => byId("list", HTMLTableElement);

function filter() {
  const matches = matcher(search().value);
  const chosen = state().value;
  listed = order.filter((i) => (!chosen || rows.state[i] === chosen) && matches(i));
  turnTo(0);
}

function drawHead() {
  const heads = COLUMNS.map(({ key, label, right }) => {
    const direction = sorting.down ? "descending" : "ascending";
    return h(
      "th",
      {
        scope: "col",
        class: right ? "right" : null,
        "data-key": key,
        "aria-sort": sorting.key === key ? direction : null,
      },
      h("button", { type: "button", onclick: () => sortBy(key) }, label),
    );
  });
  list().tHead?.remove();
  list().prepend(h("thead", {}, h("tr", {}, heads, h("th", { scope: "col" }, h("span", {}, "Course")))));
}

/**
 * @param {number} i
 */
function rowOf(i) {
  const cells = COLUMNS.map(({ key, right, show }) => {
    const looks = [right ? "right" : "", rows[key][i] == null ? "none" : ""].join(" ").trim();
    return h("td", { class: looks || null }, show(i));
  });
  const course = thumbnail(seriesOf(i, 2), 96, 22, false);
  return h("tr", { "data-track": rows.track[i] }, cells, h("td", {}, course));
}

/**
 * Show the page of this number, or the first or last one instead of one that does not exist.
 *
 * @param {number} number
 */
function turnTo(number) {
  const pages = Math.max(Math.ceil(listed.length / PAGE), 1);
  page = Math.min(Math.max(number, 0), pages - 1);
  const part = listed.slice(page * PAGE, (page + 1) * PAGE);
  const body = list().tBodies[0] || list().appendChild(h("tbody"));
  body.replaceChildren(...part.map(rowOf));
  const [all, found] = [rows.track.length, listed.length];
  byId("nothing").hidden = found > 0;
  byId("found").textContent =
    found === all ? counted(found, "track") : `${whole(found)} of ${whole(all)} tracks`;
  byId("at").textContent = found
    ? `${whole(page * PAGE + 1)}–${whole(page * PAGE + part.length)} of ${whole(found)}`
    : "0 of 0";
  for (const id of ["first", "previous"]) byId(id, HTMLButtonElement).disabled = page === 0;
  for (const id of ["next", "last"]) byId(id, HTMLButtonElement).disabled = page === pages - 1;
}

/**
 * Sort by a column, or the other way round if it is sorted by it.
 *
 * @param {Key} key
 */
function sortBy(key) {
  sorting = { key, down: sorting.key === key ? !sorting.down : !columnOf(key).upwards };
  sort();
  drawHead();
  filter();
  /** @type {HTMLElement | null} */ (list().querySelector(`th[data-key="${key}"] button`))?.focus();
}

/**
 * @param {string} query
 * @param {string} chosen
 */
function find(query, chosen) {
  search().value = query;
  state().value = chosen;
  filter();
}

/**
 * Show the tracks in this state.
 *
 * @param {string} name
 */
export function showState(name) {
  find("", name);
  byId("tracks").scrollIntoView();
  state().focus({ preventScroll: true });
}

/**
 * Show the tracks of this artist.
 *
 * @param {string} id
 */
export const showArtist = (id) => find(`artist ${id}`, "");

/**
 * The listed tracks before and after this one.
 *
 * @param {number} i
 * @returns {(number | undefined)[]}
 */
export function neighbours(i) {
  const at = listed.indexOf(i);
  return at < 0 ? [undefined, undefined] : [listed[at - 1], listed[at + 1]];
}

function drawStates() {
  const stale = rows.state.includes("stale") ? [["stale", "stale"]] : [];
  const without = summary.states
    .filter(({ tracks }) => tracks)
    .map(({ name }) => [name, name === "pending" ? name : `skipped: ${name}`]);
  const options = [["", "All"], ["forecast", "forecast"], ...stale, ...without];
  state().replaceChildren(...options.map(([value, label]) => h("option", { value }, label)));
}

function sayWhatIsMissing() {
  if (summary.rows === summary.tracks) return;
  byId("tracks-title").textContent = `The ${whole(summary.rows)} largest tracks`;
  byId("tracks-note").hidden = false;
  byId("tracks-note").textContent =
    `Of ${whole(summary.tracks)} tracks, the table lists those with the largest forecasts, then those with the most streams. ` +
    "The sums above cover all tracks.";
}

export function drawTable() {
  drawStates();
  sayWhatIsMissing();
  state().addEventListener("change", filter);
  search().addEventListener("input", filter);
  byId("first").addEventListener("click", () => turnTo(0));
  byId("previous").addEventListener("click", () => turnTo(page - 1));
  byId("next").addEventListener("click", () => turnTo(page + 1));
  byId("last").addEventListener("click", () => turnTo(Infinity));
  sort();
  drawHead();
  filter();
}
