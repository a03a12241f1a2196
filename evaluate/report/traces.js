// The chosen video: its traces are unpacked and drawn, and the values under the cursor are shown.

const content = JSON.parse(document.getElementById("content").textContent);
const LABEL = -1; // in place of the number of a run
const [VALUE_SCALE, NO_VALUE] = content.scales ? content.scales.i2 : [];
const [SHARE_SCALE, NONE] = content.scales ? content.scales.u1 : [];
const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

let video = null; // the chosen one: {meta, traces, layout}
let cursor = 0; // point under the cursor

// Columns lie one after another in a zlib stream, in the order of `content.columns`.
async function unpack(meta) {
  const packed = Uint8Array.from(atob(meta.data), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  const traces = new Map();
  let offset = 0;
  for (const { part, run, name, type } of content.columns) {
    const Type = type === "i2" ? Int16Array : Uint8Array;
    traces.set(`${part} ${run} ${name}`, new Type(bytes, offset, meta.points));
    offset += meta.points * Type.BYTES_PER_ELEMENT;
  }
  return (part, run, name) => traces.get(`${part} ${run} ${name}`);
}

const unit = (meta) => (meta.fps ? "s" : "frames");
const timeOf = (meta, row) => row / (meta.fps || 1);
const rowOf = (meta, point) => Math.floor(((point + 0.5) * meta.rows) / meta.points);
const valueAt = (trace, point) => (trace[point] === NO_VALUE ? null : trace[point] / VALUE_SCALE);
const shareAt = (trace, point) => (trace[point] === NONE ? null : trace[point] / SHARE_SCALE);

async function choose(index) {
  const meta = content.videos[index];
  const traces = await unpack(meta);
  video = { meta, traces };
  cursor = 0;
  for (const button of document.querySelectorAll("button[data-video]")) {
    const row = button.closest("tr");
    if (Number(button.dataset.video) === index) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
  const length = meta.fps ? `${(meta.rows / meta.fps).toFixed(1)} s at ${+meta.fps.toFixed(2)} frames a second` : "";
  byId("chosen").textContent = `${meta.name}: ${meta.rows.toLocaleString("en")} rows${length && ", "}${length}`;
  showFaces(meta);
  byId("cursor").hidden = byId("face").hidden = true;
  byId("readout").replaceChildren("Move over the traces, or along them with the arrow keys, to read values.");
  draw();
}

// ---- under the cursor

const shown = (value, digits) => (value === null ? "–" : value.toFixed(digits));

// The values of the label and of each run for one output at a point, as pairs of a name and a text.
function textsAt(part, name, point) {
  const kinds = {
    regression: (run) => shown(valueAt(video.traces(part.name, run, name), point), 2),
    binary: (run) => {
      const share = video.traces(part.name, run, name)[point];
      return shown(share === NONE ? null : share / (run === LABEL ? 1 : SHARE_SCALE), run === LABEL ? 0 : 2);
    },
    classes: (run) => {
      const one = video.traces(part.name, run, "class")[point];
      if (one === NONE) return "–";
      const share = run === LABEL ? "" : ` ${shown(shareAt(video.traces(part.name, run, "top"), point), 2)}`;
      return part.outputs[one] + share;
    },
  };
  return ["label", ...content.runs].map((run, place) => [run, kinds[part.kind](place - 1)]);
}

function pointTo(point) {
  const { meta, plot } = video;
  cursor = Math.max(0, Math.min(meta.points - 1, point));
  const row = rowOf(meta, cursor), time = timeOf(meta, row).toFixed(meta.fps ? 2 : 0);
  const items = [`${time} ${unit(meta)}`, `frame ${row + 1}`];
  for (const part of content.parts) {
    for (const name of part.kind === "classes" ? [part.name] : part.outputs) {
      items.push(`${name}: ${textsAt(part, name, cursor).map((pair) => pair.join(" ")).join(", ")}`);
    }
  }
  const readout = byId("readout");
  readout.replaceChildren(...items.map((item) => Object.assign(document.createElement("span"), { textContent: item })));
  const line = byId("cursor"), x = plot.x(cursor + 0.5);
  line.hidden = false;
  line.style.left = `${x}px`;
  byId("canvas").setAttribute("aria-valuenow", time);
  byId("canvas").setAttribute("aria-valuetext", items.join("; "));
  showNear(row, x);
}

// The face nearest to a row, if the row is in or next to one of the spans that have faces.
function showNear(row, x) {
  let near = null;
  for (const picture of document.querySelectorAll("#faces img")) {
    picture.classList.remove("near");
    const distance = Math.abs(Number(picture.dataset.row) - row);
    if (distance <= Number(picture.dataset.reach) && !(near && near.distance <= distance)) near = { picture, distance };
  }
  const face = byId("face");
  face.hidden = !near;
  if (!near) return;
  near.picture.classList.add("near");
  face.replaceChildren(Object.assign(new Image(), { src: near.picture.src, alt: near.picture.alt }));
  face.style.left = `${Math.min(x + 10, byId("canvas").clientWidth - 90)}px`;
}

function showFaces(meta) {
  const figures = meta.spans.filter((span) => span.faces.length).map((span) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const [begin, end] = [span.start, span.stop].map((row) => timeOf(meta, row).toFixed(1));
    caption.textContent = `${begin} to ${end} ${unit(meta)}, error ${span.error.toFixed(2)}`;
    const strip = document.createElement("div");
    for (const [row, source] of span.faces) {
      const picture = new Image();
      picture.src = source;
      picture.alt = `frame ${row + 1}`;
      picture.dataset.row = row;
      picture.dataset.reach = (span.stop - span.start) / span.faces.length;
      strip.append(picture);
    }
    figure.append(caption, strip);
    return figure;
  });
  byId("faces").replaceChildren(...figures);
}

// ---- mouse, keys, and another size or look of the page

function start() {
  const canvas = byId("canvas"), list = byId("videos");
  canvas.addEventListener("pointermove", (event) => {
    if (!video) return;
    const { left, width } = video.plot;
    pointTo(Math.floor(((event.offsetX - left) / width) * video.meta.points));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -50, PageUp: 50 }[event.key];
    if (!video || !step) return;
    event.preventDefault();
    pointTo(cursor + step);
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr");
    if (row) choose(Number(row.querySelector("button").dataset.video));
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
    let row = event.target.closest("tbody tr");
    if (!row || !step) return;
    event.preventDefault();
    do row = row[step];
    while (row && row.hidden);
    if (row) row.querySelector("button").focus();
  });
  new ResizeObserver(draw).observe(byId("plot"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // paper is light, and the canvas is drawn before the page is laid out for it
  const print = (isOn) => () => {
    document.documentElement.toggleAttribute("data-print", isOn);
    draw();
  };
  window.addEventListener("beforeprint", print(true));
  window.addEventListener("afterprint", print(false));
  if (content.videos.length) choose(0);
}

if (content.videos) start();
