// Draws the page: the sections on all tracks at once, then the tracks once they are unpacked.

import { drawCards } from "./cards.js";
import { byId } from "./dom.js";
import { drawTable } from "./table.js";
import { offerThemes } from "./theme.js";
import { followAddress } from "./track.js";
import { unpack } from "./tracks.js";

/**
 * @param {(() => void)[]} sections
 */
async function drawAll(sections) {
  byId("drawn").hidden = false;
  for (const draw of sections) draw();
  await unpack();
  drawTable();
  drawCards();
  followAddress();
  document.documentElement.dataset.ready = "";
}

/**
 * @param {(() => void)[]} sections
 */
export function start(...sections) {
  offerThemes();
  drawAll(sections).catch((error) => {
    byId("problem").hidden = false;
    byId("problem").textContent =
      "DecompressionStream" in window
        ? `The page is damaged: ${error.message}`
        : "The table of tracks needs a newer browser (2023 or later).";
  });
}
