// Shows the trials of one session slot with jsPsych 8. Nothing here knows which query is right.
"use strict";

const jsPsych = initJsPsych({ on_finish: save });

// Replace this with a request to your own server.
function save() {
  jsPsych.data.get().filter({ task: "choice" }).localSave("json", `slot-${slot}.json`);
}

const asked = new URLSearchParams(window.location.search).get("slot") ?? "";
let slot = "";

async function read(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status}`);
  return response.json();
}

function grid(pictures, label) {
  const images = pictures.map((address, n) => `<img src="${address}" alt="${label} ${n + 1}">`);
  return `<div class="references" role="group" aria-label="${label}">${images.join("")}</div>`;
}

function escape(text) {
  const element = document.createElement("span");
  element.textContent = text;
  return element.innerHTML.replaceAll('"', "&quot;");
}

function draw(trial, labels) {
  const query = (place) => `<img src="${trial[place]}" alt="${escape(labels[place])}">`;
  return `<p class="question">${escape(labels.question)}</p>
    <div class="task">${grid(trial.left, "left")}
      <div class="queries">${query("upper")}${query("lower")}</div>
    ${grid(trial.right, "right")}</div>`;
}

async function run() {
  const settings = await read("settings.json");
  slot = settings.slots.includes(asked) ? asked : settings.slots[0];
  const trials = await read(`trials/${slot}.json`);
  const labels = settings.labels;
  const choices = ["upper", "lower"].flatMap((position) => [3, 2, 1].map((confidence) => ({ position, confidence })));
  const name = ({ position, confidence }) =>
    labels.confidence
      .replace("{position}", labels[position])
      .replace("{confidence}", labels[`confidence_${confidence}`]);
  const pictures = (trial) => [...trial.left, ...trial.right, trial.upper, trial.lower];
  const timeline = trials.flatMap((trial) => [
    { type: jsPsychPreload, images: pictures(trial), show_progress_bar: false },
    {
      type: jsPsychHtmlButtonResponse,
      stimulus: draw(trial, labels),
      choices: choices.map(name),
      button_layout: "grid",
      grid_rows: 2,
      grid_columns: 3,
      enable_button_after: settings.locked_ms,
      data: { task: "choice", slot, trial: trial.trial, block: trial.block },
      save_trial_parameters: { stimulus: false },
      on_finish: (data) => Object.assign(data, choices[data.response]),
    },
  ]);
  await jsPsych.run(timeline);
}

run().catch((error) => {
  document.body.textContent = `The task can't be shown: ${error.message}. Serve this folder over HTTP.`;
});
