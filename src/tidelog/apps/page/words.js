// The page's own words, in English and Chinese.

const WORDS = {
  en: {
    title: "tidelog: ask your documents",
    lead: "Ask your documents",
    sub: "The answer is made of their own sentences, with sources. Reload, close the tab, come back: it is still there.",
    label: "Your question",
    hint: "What would you like to know?",
    ask: "Ask",
    pace: "Pace",
    pace6: "slow, 6 words/s",
    pace12: "reading, 12 words/s",
    pace30: "quick, 30 words/s",
    pace0: "all at once",
    banner: "Built-in answerer, extractive: it quotes your documents. No language model is attached.",
    own: "These are tidelog's own documents. Start it with --docs and a folder to ask yours.",
    documents: (n) => (n === 1 ? "1 document" : `${n} documents`),
    reading: "reading the documents …",
    unread: "the documents cannot be read",
    kept: (store) => `questions and answers are kept in ${store}`,
    forgotten: "questions and answers are kept in memory until the server stops",
    sources: "Sources",
    answer: "Answer",
    earlier: "Earlier in this conversation",
    fresh: "New conversation",
    stop: "Stop",
    retry: "Retry",
    continue: "Continue",
    other: "中文",
    source: (n) => `Source ${n}`,
    sending: "Sending the question",
    searching: "Searching the documents",
    answering: "Answering",
    stopping: "Stopping",
    completed: "Complete",
    stopped: "Stopped; what there is, is kept",
    interrupted: "Interrupted: the server went away; what there is, is kept",
    timed_out: "It took too long; what there is, is kept",
    failed: (why) => `Failed: ${why}`,
    refused: (why) => `Not possible: ${why}`,
    reconnecting: "Connection lost; coming back",
    offline: "You are offline; it goes on by itself when you are back",
    not_found: "There is no such answer here: it was deleted, or belongs to another server.",
    expired: "This answer is no longer kept.",
    examples: ["What happens when I reload the page?", "What is a cursor?", "What happens after a crash?"],
  },
  zh: {
    title: "tidelog：向您的文档提问",
    lead: "向您的文档提问",
    sub: "答案由文档中的原句组成，并附出处。刷新、关掉标签页、稍后再来，它都还在。",
    label: "您的问题",
    hint: "想知道什么？",
    ask: "提问",
    pace: "速度",
    pace6: "慢速，每秒 6 词",
    pace12: "阅读速度，每秒 12 词",
    pace30: "快速，每秒 30 词",
    pace0: "一次显示",
    banner: "内置的摘录式回答：只引用您的文档，没有接入语言模型。",
    own: "目前检索的是 tidelog 自带的文档；启动时加上 --docs 和文件夹即可检索您自己的文档。",
    documents: (n) => `${n} 篇文档`,
    reading: "正在读取文档……",
    unread: "无法读取文档",
    kept: (store) => `问答保存在 ${store}`,
    forgotten: "问答保存在内存中，服务器停止后即消失",
    sources: "出处",
    answer: "回答",
    earlier: "本次对话中较早的问题",
    fresh: "新对话",
    stop: "停止",
    retry: "重试",
    continue: "继续",
    other: "English",
    source: (n) => `出处 ${n}`,
    sending: "正在发送问题",
    searching: "正在查找文档",
    answering: "正在回答",
    stopping: "正在停止",
    completed: "已完成",
    stopped: "已停止，已有的内容保留",
    interrupted: "已中断：服务器离开了，已有的内容保留",
    timed_out: "用时过长，已有的内容保留",
    failed: (why) => `失败：${why}`,
    refused: (why) => `无法执行：${why}`,
    reconnecting: "连接中断，正在恢复",
    offline: "您已离线，恢复网络后会自动继续",
    not_found: "这里没有这个回答：它已被删除，或属于另一台服务器。",
    expired: "这个回答已不再保留。",
    examples: ["刷新页面之后答案还在吗？", "什么是游标？", "怎样用自己的文档？"],
  },
};

/** The language to begin with: the one chosen before, else the browser's. */
export function firstLanguage(chosen) {
  const wanted = chosen ? [chosen] : navigator.languages;
  const found = wanted.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in WORDS);
  return found ?? "en";
}

/** The words of a language: `say(name, …)`. */
export function speaker(language) {
  const words = WORDS[language];
  return (name, ...given) => {
    const word = words[name] ?? name;
    return typeof word === "function" ? word(...given) : word;
  };
}
