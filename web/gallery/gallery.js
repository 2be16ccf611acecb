// Restores the gallery's pictures and says how it goes.

import { restoreAll } from "./cnn-compression.js";

function say(event, text) {
  event.target.closest("figure").querySelector(".state").textContent = text;
}

addEventListener("restoreprogress", (event) =>
  say(event, `Restoring: ${event.detail.done} of ${event.detail.total}`));
addEventListener("restoredone", (event) =>
  say(event, `Restored in ${event.detail.seconds.toFixed(1)} s`));
addEventListener("restoreerror", (event) =>
  say(event, `Preview only: ${event.detail.error.message}`));

const summary = document.getElementById("summary");
summary.textContent = "Restoring…";
const outcomes = await restoreAll();
const done = outcomes.filter(({ status }) => status === "fulfilled").length;
summary.textContent = `${done} of ${outcomes.length} restored.`;
