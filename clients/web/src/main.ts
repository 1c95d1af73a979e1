import { mount } from "svelte";

import App from "./App.svelte";
import "./design/base.css";
import { texts } from "./texts/en.ts";

const target = document.getElementById("page");
if (target === null) throw new Error("index.html has no place for the page");

document.documentElement.lang = texts.language;
document.documentElement.dir = texts.direction;
mount(App, { target });
