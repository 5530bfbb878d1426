// How the demo classifies: with ONNX Runtime's WebAssembly build and the model, both of which are in this file.

const AT_ONCE = 1;
const WHERE = "They stay on this computer: the model is in this page.";
const LIMIT = Number(document.getElementById("limit").textContent); // width × height, as in training

const ready = start();
ready.catch((error) => { document.getElementById("about").textContent = `expected to start the model, received: ${error.message}`; });

async function unpacked(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index += 1) bytes[index] = text.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function start() {
  const code = URL.createObjectURL(new Blob([await unpacked("runtime")], { type: "text/javascript" }));
  const ort = await import(code);
  // One thread: a page opened from a file gets no shared memory, which more would need.
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmBinary = (await unpacked("wasm")).buffer;
  const session = await ort.InferenceSession.create(await unpacked("model"), { executionProviders: ["wasm"] });
  for (const id of ["runtime", "wasm", "model"]) document.getElementById(id).remove(); // their text is no longer needed
  return { ort, session };
}

// Upright RGB on white, as in training; nothing is converted by a colour profile.
async function pixels(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("expected an image, received what this browser can't decode; save it as JPEG or PNG");
  }
  const { width, height } = bitmap;
  if (width * height > LIMIT) {
    bitmap.close();
    throw new Error(`expected ${LIMIT} pixels at most, received ${width} × ${height}; send a smaller image`);
  }
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return { rgb, width, height };
}

async function classify(file) {
  const { ort, session } = await ready;
  const { rgb, width, height } = await pixels(file);
  const told = await session.run({ images: new ort.Tensor("uint8", rgb, [1, height, width, 3]) });
  const shares = [...told.probabilities.data];
  return {
    label: told.label.data[0],
    probability: Math.max(...shares),
    probabilities: Object.fromEntries(classes.map((name, index) => [name, shares[index]])),
    ...(told.unfamiliarity && { unfamiliarity: told.unfamiliarity.data[0], unfamiliar: told.unfamiliarity.data[0] > 1 }),
  };
}
