// The traces of the chosen video on a canvas, panel below panel over a common time axis.

const TOP = 12, BOTTOM = 34, GAP = 18, RIGHT = 10; // room around the panels, in pixels
const VALUES_HEIGHT = 104, TOP_HEIGHT = 44, STRIP = 13, UNIT_STRIP = 6;

// Panels from top to bottom: one for each output of a regression, one for classes, one for all action units.
function panelsOf() {
  const n = content.runs.length;
  const panels = [];
  for (const part of content.parts) {
    if (part.kind === "regression") {
      for (const name of part.outputs) panels.push({ part, name, height: VALUES_HEIGHT, draw: drawValues });
    } else if (part.kind === "classes") {
      panels.push({ part, name: "class", height: (n + 1) * (STRIP + 2), draw: drawClasses });
      panels.push({ part, name: "top", height: TOP_HEIGHT, draw: drawTop });
    } else {
      const height = part.outputs.length * ((n + 1) * UNIT_STRIP + 6);
      panels.push({ part, name: "units", height, draw: drawUnits });
    }
  }
  return panels;
}

function draw() {
  if (!video) return;
  const canvas = byId("canvas"), panels = panelsOf();
  const width = canvas.clientWidth, left = width < 500 ? 48 : 76;
  const height = TOP + BOTTOM + panels.reduce((sum, panel) => sum + panel.height + GAP, 0);
  const ratio = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  c.font = "12px system-ui, sans-serif";
  const plot = { c, left, right: width - RIGHT, width: width - RIGHT - left, bottom: height - BOTTOM };
  const x = (point) => left + (point * plot.width) / video.meta.points;
  Object.assign(plot, { x, text: css("--text"), quiet: css("--quiet"), rule: css("--rule"), page: css("--page") });
  plot.colours = content.runs.map((_, run) => css(`--run${run}`));
  plot.dashes = content.runs.map((_, run) => (css(`--dash${run}`).match(/[\d.]+/g) || []).map(Number));
  video.plot = plot;
  drawMissing(plot);
  drawSpans(plot);
  let y = TOP;
  for (const panel of panels) {
    panel.draw(plot, panel, y);
    y += panel.height + GAP;
  }
  drawTime(plot);
  canvas.dataset.video = video.meta.name;
  canvas.setAttribute("aria-valuemax", timeOf(video.meta, video.meta.rows).toFixed(2));
}

// Calls back with begin, end and value of each stretch of equal values.
function stretches(trace, points, use) {
  for (let begin = 0, end; begin < points; begin = end) {
    for (end = begin + 1; end < points && trace[end] === trace[begin]; ) end++;
    use(begin, end, trace[begin]);
  }
}

function drawMissing({ c, x, bottom }) {
  c.fillStyle = css("--missing");
  stretches(video.traces("", LABEL, "present"), video.meta.points, (begin, end, present) => {
    if (!present) c.fillRect(x(begin), TOP, Math.max(1, x(end) - x(begin)), bottom - TOP);
  });
}

function drawSpans({ c, x }) {
  c.fillStyle = css("--worst");
  const scale = video.meta.points / video.meta.rows;
  for (const { start, stop } of video.meta.spans) {
    c.fillRect(x(start * scale), 2, Math.max(2, x(stop * scale) - x(start * scale)), 5);
  }
}

function write({ c, text, quiet }, words, x, y, align, loud) {
  c.fillStyle = loud ? text : quiet;
  c.textAlign = align;
  c.textBaseline = "middle";
  c.fillText(words, x, y);
}

function rule({ c, left, right, rule: colour }, y) {
  c.strokeStyle = colour;
  c.setLineDash([]);
  c.lineWidth = 1;
  c.beginPath();
  c.moveTo(left, Math.round(y) + 0.5);
  c.lineTo(right, Math.round(y) + 0.5);
  c.stroke();
}

function line({ c, x }, trace, at, y, colour, dash, thickness) {
  c.strokeStyle = colour;
  c.setLineDash(dash);
  c.lineWidth = thickness;
  c.lineJoin = "round";
  c.beginPath();
  let isDown = false;
  for (let point = 0; point < video.meta.points; point++) {
    const value = at(trace, point);
    if (value === null) isDown = false;
    else if (isDown) c.lineTo(x(point + 0.5), y(value));
    else {
      c.moveTo(x(point + 0.5), y(value));
      isDown = true;
    }
  }
  c.stroke();
  c.setLineDash([]);
}

function drawValues(plot, { part, name, height }, top) {
  const y = (value) => top + ((part.high - value) / (part.high - part.low)) * height;
  for (const value of [part.low, (part.low + part.high) / 2, part.high]) {
    rule(plot, y(value));
    write(plot, String(value), plot.left - 5, y(value), "right");
  }
  write(plot, name, 0, y(part.low + 0.75 * (part.high - part.low)), "left", true);
  content.runs.forEach((_, run) =>
    line(plot, video.traces(part.name, run, name), valueAt, y, plot.colours[run], plot.dashes[run], 1.5));
  // the label is smoother than predictions and would vanish below them
  line(plot, video.traces(part.name, LABEL, name), valueAt, y, plot.text, [], 1.8);
}

function drawClasses(plot, { part }, top) {
  ["label", ...content.runs].forEach((name, place) => {
    const y = top + place * (STRIP + 2);
    write(plot, name, plot.left - 5, y + STRIP / 2, "right", true);
    stretches(video.traces(part.name, place - 1, "class"), video.meta.points, (begin, end, one) => {
      if (one === NONE) return;
      plot.c.fillStyle = content.colours[one];
      plot.c.fillRect(plot.x(begin), y, plot.x(end) - plot.x(begin) + 0.3, STRIP);
    });
  });
}

function drawTop(plot, { part, height }, top) {
  const y = (value) => top + (1 - value) * height;
  for (const value of [0, 1]) {
    rule(plot, y(value));
    write(plot, String(value), plot.left - 5, y(value), "right");
  }
  write(plot, plot.left > 60 ? "probability" : "prob.", 0, y(0.5), "left", true);
  content.runs.forEach((_, run) =>
    line(plot, video.traces(part.name, run, "top"), shareAt, y, plot.colours[run], plot.dashes[run], 1.4));
}

// For each unit a strip of labels (active or not) above strips of probability.
function drawUnits(plot, { part }, top) {
  const n = content.runs.length, pitch = (n + 1) * UNIT_STRIP + 6;
  part.outputs.forEach((name, place) => {
    const y = top + place * pitch;
    write(plot, name, plot.left - 5, y + pitch / 2 - 3, "right", true);
    for (let run = LABEL; run < n; run++) {
      const at = y + (run + 1) * UNIT_STRIP, isLabel = run === LABEL;
      stretches(video.traces(part.name, run, name), video.meta.points, (begin, end, share) => {
        if (share === NONE) return;
        plot.c.fillStyle = isLabel ? plot.text : plot.colours[run];
        plot.c.globalAlpha = isLabel ? share : share / SHARE_SCALE;
        plot.c.fillRect(plot.x(begin), at, plot.x(end) - plot.x(begin) + 0.3, UNIT_STRIP - 1);
      });
      plot.c.globalAlpha = 1;
    }
    rule(plot, y + pitch - 4);
  });
}

function drawTime(plot) {
  const { meta } = video, end = timeOf(meta, meta.rows);
  const rough = end / Math.max(2, plot.width / 110), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  for (let time = 0; time <= end; time += step) {
    const x = plot.left + (time / end) * plot.width;
    plot.c.fillStyle = plot.quiet;
    plot.c.fillRect(Math.round(x), plot.bottom - 6, 1, 6);
    write(plot, String(+time.toFixed(3)), x, plot.bottom + 8, "center");
  }
  write(plot, meta.fps ? "time in s" : "frame", plot.left + plot.width / 2, plot.bottom + 24, "center", true);
}
