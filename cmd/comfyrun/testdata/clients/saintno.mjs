import { readFileSync } from 'node:fs';
import { CallWrapper, ComfyApi, PromptBuilder } from '@saintno/comfyui-sdk';

const [url, file] = process.argv.slice(2);
const api = await new ComfyApi(url).init().waitForReady();
const workflow = JSON.parse(readFileSync(file));
const output = Object.keys(workflow).find((id) => /^(Save|Preview)Image$/.test(workflow[id].class_type));
const builder = new PromptBuilder(workflow, [], ['images']).setOutputNode('images', output);
const steps = [];
const result = await new Promise((resolve, reject) => {
  new CallWrapper(api, builder)
    .onProgress((p) => steps.push(p.value))
    .onFinished((data) => resolve(data))
    .onFailed((error) => reject(error))
    .run();
});
const sizes = [];
for (const image of result.images.images) {
  const response = await fetch(api.getPathImage(image));
  sizes.push((await response.arrayBuffer()).byteLength);
}
console.log(JSON.stringify(sizes));
process.exit(0);
