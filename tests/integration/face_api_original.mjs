// What the original @vladmandic/face-api says of faces cut from images, in Node on the CPU.
//
// Arguments: the package's folder, a JSON file with the cases, the JSON file to write.
// A case is { offset, width, height, box }: RGB bytes of an image in the file `pixels`
// next to the cases, and the box (left, top, right, bottom) of a face in it.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

// The bundled TensorFlow.js is the browser's and fails where it believes itself in Node.
globalThis.window = { document: {} };

const [folder, casesFile, answersFile] = process.argv.slice(2);
const faceapi = await import(pathToFileURL(path.join(folder, 'dist', 'face-api.esm.js')));
const { tf, nets } = faceapi;
await tf.setBackend('cpu');
await tf.ready();
// The bundle cannot `require` the file system.
faceapi.env.monkeyPatch({ readFile });
await nets.ageGenderNet.loadFromDisk(path.join(folder, 'model'));

const { pixels, cases } = JSON.parse(await readFile(casesFile, 'utf8'));
const bytes = await readFile(path.join(path.dirname(casesFile), pixels));
const answers = [];
for (const { offset, width, height, box } of cases) {
  const image = tf.tensor3d(bytes.subarray(offset, offset + width * height * 3), [height, width, 3], 'int32');
  const [left, top, right, bottom] = box;
  const rectangle = new faceapi.Rect(left, top, right - left, bottom - top);
  const [face] = await faceapi.extractFaceTensors(image, [rectangle]);
  const shown = (await faceapi.toNetInput(face)).toBatchTensor(112, true).dataSync();
  answers.push({
    ...await nets.ageGenderNet.predictAgeAndGender(face),
    // The pixels that the network is shown: float32, 112 × 112 × 3, in base64.
    shown: Buffer.from(Float32Array.from(shown).buffer).toString('base64'),
  });
}
await writeFile(answersFile, JSON.stringify({ backend: tf.getBackend(), version: faceapi.version, answers }));
