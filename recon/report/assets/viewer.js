// The slice viewer. Data: one JSON block; every volume is 16-bit codes, delta-coded along x, signs folded into the last
// bit (zigzag), low bytes then high bytes, deflated, base64. value = offset + scale * code. Axes are (z, y, x): x to the right, y down, z up.
(() => {
  const [depth, height, width] = data.shape;
  const counts = { z: depth, y: height, x: width };
  const size = { z: data.voxel_mm[0], y: data.voxel_mm[1], x: data.voxel_mm[2] };
  // across and down: the axes along a plane's columns and rows; through: the axis its slider moves.
  const planes = [
    { name: data.planes[0], across: "x", down: "y", through: "z" },
    { name: data.planes[1], across: "x", down: "z", through: "y" },
    { name: data.planes[2], across: "y", down: "z", through: "x" },
  ];
  const state = { at: { z: depth >> 1, y: height >> 1, x: width >> 1 }, low: 0, high: 1, volume: 0 };
  let volumes = [];
  // Of a run with draws: the volume that says how unsure the others are, and from where on they are hatched.
  const unsure = data.deviation && { ...data.deviation, index: data.volumes.findIndex(({ label }) => label === data.deviation.volume), window: null };

  async function decode(text) {
    const bytes = await inflated(text);
    const total = depth * height * width;
    const codes = new Uint16Array(total);
    for (let start = 0; start < total; start += width) {
      let code = 0;
      for (let i = start; i < start + width; i++) {
        const zigzag = bytes[i] + 256 * bytes[total + i];
        code = (code + ((zigzag >>> 1) ^ -(zigzag & 1))) & 0xffff;
        codes[i] = code;
      }
    }
    return codes;
  }

  const offsetOf = (at) => (at.z * height + at.y) * width + at.x;
  const stride = { x: 1, y: width, z: width * height };
  const valueAt = (at) => data.offset + data.scale * volumes[state.volume][offsetOf(at)];
  // z counts upward on the screen.
  const row = (plane, index) => (plane.down === "z" ? counts.z - 1 - index : index);

  function fill(plane, bytes) {
    const [columns, rows] = [counts[plane.across], counts[plane.down]];
    const codes = volumes[state.volume];
    const start = offsetOf({ x: 0, y: 0, z: 0, [plane.through]: state.at[plane.through] });
    const gain = (255 * data.scale) / (state.high - state.low);
    const bias = (255 * (data.offset - state.low)) / (state.high - state.low);
    const hatched = unsure && byId("hatch").checked && state.volume !== unsure.index ? volumes[unsure.index] : null;
    const limit = unsure ? (unsure.threshold - data.offset) / data.scale : 0;
    // The lines must be seen in slices of any size, so they are never closer than a hundredth of it.
    const spacing = Math.max(4, Math.round(columns / 100));
    for (let r = 0, out = 0; r < rows; r++) {
      let from = start + row(plane, r) * stride[plane.down];
      for (let c = 0; c < columns; c++, out += 4, from += stride[plane.across]) {
        const gray = bias + gain * codes[from]; // the clamped array rounds and clips
        bytes[out] = bytes[out + 1] = bytes[out + 2] = gray;
        bytes[out + 3] = 255;
        if (hatched && hatched[from] > limit && (c + r) % spacing === 0) {
          bytes[out] = 255; bytes[out + 1] = 120; bytes[out + 2] = 40;
        }
      }
    }
  }

  function paint(plane) {
    annotate(plane, plane.picture.paint((bytes) => fill(plane, bytes), byId("smooth").checked));
  }

  function annotate(plane, pen) {
    const { canvas } = plane.picture;
    const [w, h] = [canvas.width, canvas.height];
    if (byId("crosshair").checked) {
      const x = ((state.at[plane.across] + 0.5) / counts[plane.across]) * w;
      const y = ((row(plane, state.at[plane.down]) + 0.5) / counts[plane.down]) * h;
      pen.strokeStyle = "rgba(255, 196, 60, 0.75)";
      pen.lineWidth = 1;
      pen.beginPath();
      for (const [a, b] of [[0, x - 9], [x + 9, w]]) { pen.moveTo(a, y); pen.lineTo(b, y); }
      for (const [a, b] of [[0, y - 9], [y + 9, h]]) { pen.moveTo(x, a); pen.lineTo(x, b); }
      pen.stroke();
    }
    const [left, right] = data.ends[plane.across];
    const [top, bottom] = plane.down === "z" ? [...data.ends.z].reverse() : data.ends.y;
    pen.font = "600 15px system-ui, sans-serif";
    pen.fillStyle = "#ffffff";
    pen.shadowColor = "#000000";
    pen.shadowBlur = 4;
    pen.textBaseline = "middle";
    pen.textAlign = "left"; pen.fillText(left, 6, h / 2);
    pen.textAlign = "right"; pen.fillText(right, w - 6, h / 2);
    pen.textAlign = "center"; pen.fillText(top, w / 2, 13); pen.fillText(bottom, w / 2, h - 11);
    scaleBar(plane, pen);
    pen.shadowBlur = 0;
  }

  function scaleBar(plane, pen) {
    const { canvas } = plane.picture;
    const perMm = canvas.width / (counts[plane.across] * size[plane.across]);
    const longest = (canvas.width * 0.3) / perMm;
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].map((step) => step * power).find((value) => value <= longest);
    const [x, y] = [canvas.width - 12, canvas.height - 12];
    pen.fillRect(x - length * perMm, y, length * perMm, 2);
    pen.font = "13px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.fillText(`${length >= 0.01 ? +length.toPrecision(3) : length} mm`, x, y - 9);
  }

  function describe() {
    const original = data.axes.map(({ axis, flipped }) => {
      const index = flipped ? counts[axis] - 1 - state.at[axis] : state.at[axis];
      return Math.round((index + 0.5) * data.reduced[axis] - 0.5);
    });
    const value = valueAt(state.at);
    const shown = data.unit === "HU" ? Math.round(value) : value.toPrecision(4);
    const spread = unsure && state.volume !== unsure.index ? data.offset + data.scale * volumes[unsure.index][offsetOf(state.at)] : null;
    const about = spread === null ? "" : ` (deviation ${data.unit === "HU" ? Math.round(spread) : spread.toPrecision(2)})`;
    byId("readout").textContent = `Voxel (z, y, x) = (${original.join(", ")}): ${shown} ${data.unit}${about}`;
    for (const plane of planes) {
      const index = state.at[plane.through];
      plane.slider.value = index;
      plane.label.textContent = `${index + 1} of ${counts[plane.through]}`;
    }
  }

  const draw = oncePerFrame(() => {
    if (!volumes.length) return false;
    planes.forEach(paint);
    describe();
    return true;
  });

  function move(axis, index) {
    state.at[axis] = between(Math.round(index), 0, counts[axis] - 1);
    draw();
  }

  function setWindow(low, high) {
    const least = data.scale;
    [state.low, state.high] = [low, Math.max(high, low + least)];
    const digits = data.unit === "HU" ? 0 : 4;
    const show = { level: (state.low + state.high) / 2, width: state.high - state.low };
    for (const [id, value] of Object.entries(show)) {
      byId(id).value = value;
      byId(`${id}-value`).textContent = value.toFixed(digits);
    }
    press("presets", Object.values(data.windows).findIndex(([a, b]) => a === low && b === high));
    draw();
  }

  function buildPlane(plane) {
    const [columns, rows] = [counts[plane.across], counts[plane.down]];
    const [mmWide, mmHigh] = [columns * size[plane.across], rows * size[plane.down]];
    const pixels = 640 / Math.max(mmWide, mmHigh);
    const id = plane.name.toLowerCase().replace(/[^a-z]+/g, "-");
    plane.picture = new Picture(id, `${plane.name} slice`, {
      columns, rows,
      width: Math.max(48, Math.round(mmWide * pixels)), height: Math.max(48, Math.round(mmHigh * pixels)),
    });
    plane.slider = element("input", {
      type: "range", id: `${id}-slice`, min: 0, max: counts[plane.through] - 1, step: 1,
      "aria-label": `${plane.name} slice number`,
    });
    plane.label = element("output", { for: `${id}-slice` });
    plane.slider.addEventListener("input", () => move(plane.through, +plane.slider.value));
    const { canvas } = plane.picture;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      move(plane.through, state.at[plane.through] - Math.sign(event.deltaY));
    }, { passive: false });
    const pick = (event) => {
      const point = plane.picture.under(event);
      move(plane.across, point.column);
      move(plane.down, row(plane, point.row));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pick(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) pick(event); });
    byId("planes").append(
      element("figure", {}, element("figcaption", {}, plane.name, plane.label), canvas, plane.slider),
    );
  }

  function buildControls() {
    byId("unit").textContent = data.unit === "unknown" ? "" : `(${data.unit})`;
    const windows = Object.values(data.windows);
    buttons("presets", Object.keys(data.windows), (index) => setWindow(...windows[index]), null);
    const [low, high] = data.range;
    const step = data.unit === "HU" ? 1 : (high - low) / 1000;
    Object.assign(byId("level"), { min: low, max: high, step });
    Object.assign(byId("width"), { min: step, max: high - low, step });
    const free = () => {
      const [level, span] = [+byId("level").value, +byId("width").value];
      setWindow(level - span / 2, level + span / 2);
    };
    for (const id of ["level", "width"]) byId(id).addEventListener("input", free);
    for (const id of ["crosshair", "smooth"]) byId(id).addEventListener("change", draw);
    byId("volumes").hidden = data.volumes.length < 2;
    buttons("volumes", data.volumes.map(({ label }) => label), chooseVolume);
    if (unsure) buildUnsure();
  }

  // The deviation has a window of its own; the others get back the one they had.
  function chooseVolume(index) {
    const [was, now] = [unsure && state.volume === unsure.index, unsure && index === unsure.index];
    state.volume = index;
    if (now && !was) {
      unsure.window = [state.low, state.high];
      setWindow(0, 2 * data.deviation.threshold);
    } else if (was && !now) setWindow(...unsure.window);
    else draw();
  }

  function buildUnsure() {
    const digits = data.unit === "HU" ? 0 : 5;
    const show = () => { byId("threshold-value").textContent = `${unsure.threshold.toFixed(digits)} ${data.unit}`; };
    byId("unsure").hidden = false;
    Object.assign(byId("threshold"), { min: 0, max: unsure.largest, step: unsure.largest / 200 });
    byId("threshold").value = unsure.threshold;
    byId("threshold").addEventListener("input", () => { unsure.threshold = +byId("threshold").value; show(); draw(); });
    byId("hatch").addEventListener("change", draw);
    show();
  }

  async function start() {
    // Few slices make the upright planes low: they then share the column beside the axial one.
    const tall = (counts.z * size.z) / Math.max(counts.y * size.y, counts.x * size.x);
    byId("planes").classList.toggle("flat", tall < 0.62);
    planes.forEach(buildPlane);
    buildControls();
    volumes = await Promise.all(data.volumes.map(({ codes }) => decode(codes)));
    setWindow(...Object.values(data.windows)[0]);
  }

  begin("slices", start);
})();
