// The core of every viewer: pictures of codes on canvases, one frame of drawing at a time, groups of buttons. A package's
// viewer is a skin over it: what its codes mean, which colours they take, what is drawn on top.

// Return a function that runs `work` in the next animation frame, once however often it is called before. The page is
// ready once `work` has drawn; it returns false where it could not yet.
function oncePerFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(async () => {
      waiting = false;
      if ((await work()) !== false) document.body.dataset.ready = "true";
    });
  };
}

const between = (value, least, most) => Math.max(least, Math.min(most, value));

// A picture of columns x rows points, painted point by point and shown at the size of its canvas.
class Picture {
  constructor(id, label, { columns, rows, width, height, style = "" }) {
    [this.columns, this.rows] = [columns, rows];
    this.native = element("canvas", { width: columns, height: rows });
    this.image = this.native.getContext("2d").createImageData(columns, rows);
    this.canvas = element("canvas", { id, class: style, role: "img", "aria-label": label, width, height });
  }

  // Fill the RGBA bytes by `fill`, show them, and return the pen that draws on top.
  paint(fill, smooth) {
    fill(this.image.data);
    this.native.getContext("2d").putImageData(this.image, 0, 0);
    const pen = this.canvas.getContext("2d");
    pen.imageSmoothingEnabled = smooth;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.native, 0, 0, this.canvas.width, this.canvas.height);
    return pen;
  }

  // The point under the pointer, within the picture.
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const point = (share, count) => between(Math.floor(share * count), 0, count - 1);
    return {
      column: point((event.clientX - box.left) / box.width, this.columns),
      row: point((event.clientY - box.top) / box.height, this.rows),
    };
  }
}

// Press one button of a group and release the others; null presses none.
function press(id, pressed) {
  byId(id).querySelectorAll("button").forEach((button, index) => button.setAttribute("aria-pressed", index === pressed));
}

// Add a button per label to the group, of which one is pressed; `choose` is called with the index of the one clicked.
function buttons(id, labels, choose, pressed = 0) {
  labels.forEach((label, index) => {
    const button = element("button", { type: "button", "aria-pressed": index === pressed }, label);
    button.addEventListener("click", () => { press(id, index); choose(index); });
    byId(id).append(button);
  });
}

// Run `start`; where it fails, say so in the readout instead of leaving an empty page.
async function begin(what, start) {
  try {
    await start();
  } catch (error) {
    byId("readout").textContent = `The ${what} could not be shown: ${error.message}`;
  }
}
