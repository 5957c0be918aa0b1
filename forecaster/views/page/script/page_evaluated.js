// The page of a catalogue with an evaluation.

import { drawEvaluation } from "./evaluation.js";
import { drawBothGroups, drawReasons, drawTotals } from "./overview.js";
import { start } from "./start.js";

start(drawTotals, drawEvaluation, drawBothGroups, drawReasons);
