// The page of a catalogue.

import { drawBothGroups, drawReasons, drawTotals } from "./overview.js";
import { start } from "./start.js";

start(drawTotals, drawBothGroups, drawReasons);
